"""The engine: the compiled programs that read prompts, fill slots, search on and give results.

The engine knows no queue: which question comes into which slot is the scheduler's to say.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from ttc_jax.models.cache import PromptCache
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling.programs import ROWS, abstract, laid, program, put, result_shapes, shards
from ttc_jax.sampling.sampler import SHORTEST_BUCKET, bucket, pad_prompts
from ttc_jax.search import bridge, deadline, kernel
from ttc_jax.search.admission import admit
from ttc_jax.search.execution import Execution
from ttc_jax.search.layout import Layout
from ttc_jax.search.plan import Plan
from ttc_jax.search.request import PromptBuckets, Request, own_limits
from ttc_jax.search.state import (
    ACTIVE,
    Answers,
    OwnLimits,
    SearchState,
    SearchTrace,
    Status,
    insert,
)
from ttc_jax.sharding.mesh import place
from ttc_jax.verifiers.adapters import Adapter
from ttc_jax.verifiers.texts import TextAdapter
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

UNLIMITED = np.iinfo(np.int32).max  # decode iterations


class Found(NamedTuple):
    """A question that is done; NumPy's arrays, once it is fetched."""

    answers: Answers
    trace: SearchTrace
    status: Array  # a `Status`
    rounds: Array
    question_score: Array


class Drafts(NamedTuple):
    """The tokens that rows have written so far."""

    tokens: Array  # [B, N, T]
    lengths: Array  # [B, N]
    active: Array  # [B, N] whether they write on


class Engine:
    """B slots for questions, and the programs that work on them.

    Args:
      end_tokens, delimiter, execution, adapter: as those of `Search`.
      prefix: tokens that prompts begin with; those of fewer than a bucket are not shared.

    Attributes:
      parameters: of the models; others of the same shapes may be put in their place.
      compilations: how often the search was compiled.
    """

    def __init__(
        self,
        generator: Transformer,
        verifier: Verifier | None,
        plan: Plan,
        *,
        end_tokens: Sequence[int],
        delimiter: Delimiter,
        execution: Execution,
        prefix: Sequence[int] = (),
        adapter: Adapter | None = None,
    ):
        spec = verifier.spec if verifier is not None else VerifierSpec()
        self.layout = Layout.of(plan, spec, adapter, execution)
        self.batch, self.mesh, self.delimiter = execution.batch, execution.mesh, delimiter
        self.reads_prompt = verifier is not None and verifier.spec.reads_tokens
        self.compilations = 0
        V = generator.config.vocab_size
        check_tokens(end_tokens, V, "end_tokens")
        check_tokens(plan.between, V, "plan.between")
        if plan.thinking is not None:
            plan.thinking.check(end_tokens, V, plan.max_new_tokens)
        self._ends = np.zeros((V,), bool)
        self._ends[list(end_tokens)] = True
        self._graph, self.parameters = nnx.split(place((generator, verifier), self.mesh))
        self._adapter = adapter
        self._prefix = tuple(prefix) if len(prefix) >= SHORTEST_BUCKET else ()
        self._prefill = program(self._run_prefill, self.mesh)
        self._admit = program(self._run_admit, self.mesh)
        self._empty = jax.jit(self._run_empty, static_argnums=0)
        self._insert = program(_insert, self.mesh, donate_argnums=1)
        self._segment = program(self._run_segment, self.mesh, donate_argnums=1)
        self._harvest = program(_harvest, self.mesh)
        self._cut = program(self._run_cut, self.mesh, donate_argnums=1)

    def ending_with(self, end_tokens: Sequence[int], adapter: Adapter | None) -> Engine:
        """Returns an engine with the same programs, for answers that end with other tokens."""
        check_tokens(end_tokens, len(self._ends), "end_tokens")
        other = copy.copy(self)
        other.__dict__.pop("_tables", None)
        other._ends = np.zeros_like(self._ends)
        other._ends[list(end_tokens)] = True
        other._adapter = adapter
        return other

    @property
    def programs(self) -> dict[str, int]:
        """How many variants of each program have been compiled."""
        programs = {"prefill": self._prefill, "admit": self._admit, "segment": self._segment}
        return {name: compiled._cache_size() for name, compiled in programs.items()}

    def buckets(self, request: Request) -> PromptBuckets:
        """Returns the sizes that a question is searched with."""
        prompt, shown = request.prompt, request.shown
        prefix = len(self._prefix)
        if self._prefix and len(prompt) > prefix and tuple(prompt[:prefix]) == self._prefix:
            # Of few sizes: what a short remainder saves is little beside the prefix.
            remainder = max(len(prompt) - prefix, 2 * SHORTEST_BUCKET + 1)
            judged = len(shown) if self.reads_prompt else 1
            return PromptBuckets(bucket(remainder), bucket(judged), shares_prefix=True)
        width = bucket(max(len(prompt), 1 if self.layout.reads_texts else len(shown)))
        return PromptBuckets(width, width)

    def prefill(self, buckets: PromptBuckets) -> tuple[PromptCache, ...]:
        """Reads the shared prefix, where prompts have it, for `admit`."""
        if not buckets.shares_prefix:
            return ()
        tokens = np.tile(np.array(self._prefix, np.int32), (shards(self.mesh), 1))
        return (self._prefill(self.parameters, put(tokens, self.mesh, ROWS)),)

    def empty(self, buckets: PromptBuckets) -> SearchState:
        """Returns B slots without a question."""
        state = self._empty(buckets)
        if self.mesh is not None:
            return state
        # Else what nothing went into would lie on no device in particular, unlike what it becomes,
        # and a program of both would be compiled twice.
        [device] = jax.tree.leaves(self.parameters)[0].devices()
        return jax.device_put(state, device)

    def admit(
        self,
        buckets: PromptBuckets,
        requests: Sequence[Request | None],
        prefix: tuple[PromptCache, ...] = (),
    ) -> SearchState:
        """Reads the prompts of one question a shard; None: of a shard that has none to give."""
        nothing = Request([0], [0], 0)
        asked = [one or nothing for one in requests]
        prompts, shown, ids, seeds, thoughts, limits, _ = zip(*asked, strict=True)
        shown = prompts if self.layout.reads_texts else shown
        if buckets.shares_prefix:
            # That of no question is as short as can be, and stays.
            prompts = [prompt[len(self._prefix) :] or prompt for prompt in prompts]
            shown = shown if self.reads_prompt else [prompt[-1:] for prompt in shown]
        asks, lengths = pad_prompts(prompts, len(requests), buckets.prompt)
        judged, seen = pad_prompts(shown, len(requests), buckets.shown)
        streams = np.array([seeds, ids], np.uint32).T
        questions = [(asks, judged), np.stack([lengths, seen], 1), streams]
        questions += self._more(np.array(thoughts, np.int32), own_limits(limits))
        return self._admit(self.parameters, put(tuple(questions), self.mesh, ROWS), *prefix)

    def insert(self, state: SearchState, admitted: SearchState, slots: Sequence[int]) -> Any:
        """Puts admitted questions into a slot of each shard; `NONE`: into none."""
        return self._insert((), state, admitted, self._over_shards(slots))

    def segment(
        self,
        state: SearchState,
        tokens: int,
        asked: Sequence[Request | None] = (),
        *,
        most: int = UNLIMITED,
    ) -> tuple[SearchState, np.ndarray, np.ndarray]:
        """Searches on; see `kernel.segment`.

        Args:
          tokens: decode iterations before it may return for the sake of a free slot.
          asked: the question in each slot, [B], which a verifier of texts reads.
          most: decode iterations after which it returns in any case.

        Returns:
          The state; which slots hold a question that is not done, [B]; and of each shard how many
          row-steps were decoded for active rows, and in all, [data, 2].
        """
        patience = put(np.array([tokens, most], np.int32), self.mesh)
        state, work = self._segment((self.parameters, *self._tables, patience), state)
        status, work = jax.device_get((state.progress.status, work))
        return self._bridged(state, asked), np.isin(status, ACTIVE), work

    def cut(
        self, state: SearchState, asked: Sequence[Request | None], chosen: np.ndarray
    ) -> SearchState:
        """Ends the search of chosen questions, [B], where it is; see `deadline.cut`."""
        waited = jax.device_get(state.progress.status) == Status.SELECTING  # has been bridged
        state = self._cut((), state, put(chosen, self.mesh, ROWS))
        return self.segment(self._bridged(state, asked, waited), 1, most=1)[0]

    def drafts(self, state: SearchState) -> Drafts:
        """Fetches what the rows of all slots have written so far."""
        decode = state.decode
        return jax.device_get(Drafts(decode.tokens, decode.cache.length, decode.cache.active))

    def harvest(self, state: SearchState, slots: Sequence[int]) -> list[Found]:
        """Fetches the questions in a slot of each shard; any question, where that is `NONE`."""
        found = jax.device_get(self._harvest((), state, self._over_shards(slots)))
        return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(slots))]

    def _bridged(
        self,
        state: SearchState,
        asked: Sequence[Request | None],
        waited: np.ndarray | None = None,
    ) -> SearchState:
        """Returns the state with what the host has to say of questions that wait for it.

        Args:
          waited: those for which it has been said, [B].
        """
        if isinstance(self._adapter, TextAdapter):
            scores = bridge.score_texts(self._adapter, state, asked, waited)
            return dataclasses.replace(state, verifier=put(scores, self.mesh, ROWS))
        if self.layout.bridged and self._adapter is not None:
            retokenized = bridge.retokenize(self.layout, self._adapter, self.delimiter, state)
            return dataclasses.replace(state, retokenized=put(retokenized, self.mesh, ROWS))
        return state

    def lower(self, width: int) -> dict[str, jax.stages.Lowered]:
        """Returns the programs for prompts padded to `width` tokens; see `Search.lower`."""
        mesh, parts = self.mesh, shards(self.mesh)
        number = abstract((parts,), np.int32, mesh, ROWS)
        streams = abstract((parts, 2), np.uint32, mesh, ROWS)
        prompt = abstract((parts, width), np.int32, mesh, ROWS)
        lengths, thought = (abstract((parts, n), np.int32, mesh, ROWS) for n in (2, 3))
        limits = own_limits([None] * parts)
        own = jax.tree.map(lambda x: abstract(x.shape, x.dtype, mesh, ROWS), limits)
        read = self.parameters, ((prompt, prompt), lengths, streams, *self._more(thought, own))
        state, tables = self.state(width), (self._ends, self.delimiter)
        tables = jax.tree.map(lambda x: abstract(x.shape, x.dtype, mesh), tables)
        shared = (self.parameters, *tables, abstract((2,), np.int32, mesh))
        return {
            "admit": self._admit.lower(*read),
            "insert": self._insert.lower(
                (), state, result_shapes(self._admit, mesh, *read), number
            ),
            "segment": self._segment.lower(shared, state),
        }

    def state(self, width: int) -> SearchState:
        """Returns the slots for prompts of `width` tokens, as shapes with their shardings."""
        return result_shapes(
            functools.partial(self._run_empty, PromptBuckets(width, width)), self.mesh
        )

    def _more(self, thought: Any, own: OwnLimits) -> tuple[Any, Any]:
        """Returns what a program is given of a question's thought and limits, where there are."""
        plan = self.layout.plan
        return thought if plan.thinking is not None else (), own if plan.own_limits else ()

    def _over_shards(self, numbers: Sequence[int]) -> jax.Array:
        """Puts a number on each shard."""
        return put(np.array(numbers, np.int32), self.mesh, ROWS)

    @functools.cached_property
    def _tables(self) -> Any:
        """The tokens that end an answer, and the delimiter of steps, on the devices."""
        return put((self._ends, self.delimiter), self.mesh)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer."""
        return np.flatnonzero(self._ends).tolist()

    def _run_empty(self, buckets: PromptBuckets) -> SearchState:
        parts, widths = shards(self.mesh), (buckets.prompt, buckets.shown, 2, 3, len(self._prefix))
        *prompts, lengths, thought, prefix = (
            jax.ShapeDtypeStruct((parts, width), np.int32) for width in widths
        )
        streams = jax.ShapeDtypeStruct((parts, 2), np.uint32)
        own = jax.eval_shape(lambda: own_limits([None] * parts))
        inputs = (tuple(prompts), lengths, streams, *self._more(thought, own))
        read = ()
        if buckets.shares_prefix:
            read = (jax.eval_shape(self._prefill, self.parameters, prefix),)
        # The program itself is asked, so that it is traced once for its shapes and its first call.
        shapes = jax.eval_shape(self._admit, self.parameters, inputs, *read)
        return laid(jax.tree.map(lambda x: _zeros(self.batch, x), shapes), self.mesh)

    def _run_prefill(self, parameters: Any, tokens: jax.Array) -> PromptCache:
        generator, _ = nnx.merge(self._graph, parameters)
        return generator.prefill(tokens)[1]

    def _run_admit(
        self, parameters: Any, questions: Any, prefix: PromptCache | None = None
    ) -> SearchState:
        models = nnx.merge(self._graph, parameters)
        return admit(self.layout, *models, *questions, prefix=prefix)

    def _run_segment(self, shared: Any, state: SearchState) -> Any:
        self.compilations += 1  # runs when traced, not when called
        parameters, ends, delimiter, tokens = shared
        models = nnx.merge(self._graph, parameters)
        state, work = kernel.segment(self.layout, *models, ends, delimiter, state, tokens)
        return state, work[None]

    def _run_cut(self, _: Any, state: SearchState, chosen: jax.Array) -> SearchState:
        return deadline.cut(self.layout.plan, state, chosen)


def _insert(_: Any, *slots: Any) -> SearchState:
    return insert(*slots)


def _harvest(_: Any, state: SearchState, slot: jax.Array) -> Found:
    progress = state.progress
    found = Found(state.answers, state.trace, progress.status, progress.round, state.question.score)
    at = jnp.maximum(slot, 0)
    return jax.tree.map(lambda x: x[at], found)


def _zeros(batch: int, shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Returns zeros for B questions like one of `shape`; keys are typed, and have no zeros."""
    rows = (batch, *shape.shape[1:])
    if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), rows)
    return jnp.zeros(rows, shape.dtype)
