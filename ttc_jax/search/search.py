"""The search over many questions: a queue, B slots, and the kernel between refills."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ttc_jax.compute.flops import Cumulative, generator_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.cache import PromptCache
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling.programs import ROWS, abstract, laid, outcome, program, put, shards
from ttc_jax.sampling.sampler import SHORTEST_BUCKET, bucket, pad_prompts
from ttc_jax.search import bridge, kernel
from ttc_jax.search.plan import Plan, check_plan
from ttc_jax.search.state import NONE, Lineage, SearchState, insert
from ttc_jax.sharding.mesh import place
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.presentation import Presentation
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import Verifier


class Shape(NamedTuple):
    """Of what is read before a question is searched: one compilation each."""

    prompt: int  # tokens that the generator's are padded to
    shown: int  # ... and the verifier's
    behind: bool = False  # whether the prompts stand behind `front`


Asked = tuple[Sequence[int], Sequence[int]]  # what the generator reads, and what the verifier


class Outcome(NamedTuple):
    """What became of a question's N candidates, on the host.

    Of answers that are revised there are N·s: chain by chain, where rows are chains; else revision
    by revision.
    """

    tokens: np.ndarray  # [N, T] int32, 0 behind the end
    lengths: np.ndarray  # [N] tokens drawn, the end token included
    log_prob: np.ndarray  # [N] nats
    finished: np.ndarray  # [N] bool; False: cut off by the limit of tokens or rounds
    step_scores: np.ndarray  # [N, T] at the last token of each step ...
    scored: np.ndarray  # [N, T] bool ... where this holds
    lineage: Lineage  # arrays [R, N], of the rounds that came
    ledger: Ledger
    question_score: float | None  # the verifier's, before any answer; None: it reads no questions
    sequential: int = 1  # s, where rows are chains
    revisions: int = 1  # answers that follow each other, in chains or not

    def is_revised(self, n: int) -> bool:
        """Whether candidate n stands behind earlier answers, and not right behind the prompt."""
        if self.sequential > 1:
            return n % self.sequential > 0
        return n * self.revisions >= len(self.lengths)

    def scores_of(self, n: int) -> tuple[float, ...]:
        """The scores of candidate n's steps."""
        return tuple(self.step_scores[n][self.scored[n]].tolist())


@dataclasses.dataclass
class Work:
    """How well the decode loop was filled: a row-step is one row in one iteration."""

    useful: int = 0  # of rows that went on
    total: int = 0

    @property
    def useful_share(self) -> float:
        """Of all row-steps decoded."""
        return self.useful / max(self.total, 1)


class Search:
    """Answers questions with one strategy at one budget.

    A question's outcome is the same to the bit in any company: in whatever order and slot, alone or
    among others, with refill or without, and when a run goes on after a kill. For all rows of a
    program are computed alike, and programs depend on the models, `plan`, `batch`, `mesh` and the
    question's own bucket of prompt lengths, never on how many questions are there. Another `batch`,
    mesh or `lanes`, another kind of processor or number of threads, and another version of JAX may
    choose other products of matrices and so round otherwise. Then log-probabilities and scores
    differ in their last bits, and tokens where that tips a draw or a selection.

    Args:
      generator, verifier: the models; no verifier, no scores, and then no strategy that needs them.
      plan: strategy, N and limits.
      end_tokens: ids that end an answer.
      delimiter: ends steps.
      batch: B, questions searched together, over all shards of the mesh's `data`. Slots without a
        question are computed too.
      refill: whether a finished question's slot goes to the next one at once; else all B start and
        end together. It changes no result.
      segment: decode iterations at least between two refills, for which shards of `data` wait for
        each other.
      seed: of all draws.
      front: tokens that prompts begin with, such as worked examples: the generator reads them once
        for all questions, where they are as many as a bucket has. Questions whose prompts begin
        otherwise are read whole. A question is still charged for all of its prompt.
      presentation: of a verifier with a format of its own, which is then shown `run`'s `shown`.
      mesh: from `sharding.mesh.make_mesh`: questions are split over `data`, of which every shard is
        a search of its own, weights and caches over `model`; None: the models' own device. Where
        `model` is 1, results are the same bits as with B / data questions on one device.

    Raises:
      UserError: a budget that the strategy cannot work with, a strategy without the verifier it
        needs, a verifier of another vocabulary, or a mesh that does not divide the models, B or the
        lanes. Nothing has been compiled by then.
    """

    def __init__(
        self,
        generator: Transformer,
        verifier: Verifier | None,
        plan: Plan,
        *,
        end_tokens: Sequence[int],
        delimiter: Delimiter,
        batch: int = 1,
        refill: bool = True,
        segment: int = 1,
        seed: int = 0,
        front: Sequence[int] = (),
        presentation: Presentation | None = None,
        mesh: Mesh | None = None,
    ):
        check_plan(plan, generator, verifier)
        for name, value in (("batch", batch), ("segment", segment)):
            if value < 1:
                raise UserError(f"execution.{name} is {value}; it must be at least 1")
        parts = shards(mesh)
        check_shards(mesh, batch, plan.lanes)
        if isinstance(verifier, Confidence):
            plan = dataclasses.replace(plan, doubt=verifier.sign != "log_prob")
        shown = presentation or verifier
        self.plan = dataclasses.replace(
            plan,
            # Of one shard, as all that is compiled; no more than there are rows.
            lanes=min(plan.lanes, batch * plan.candidates) // parts,
            step_format=shown.step_format if shown is not None else StepFormat(),
            bridged=presentation is not None and presentation.bridged,
        )
        self.presentation = presentation
        self.batch, self.refill, self.segment, self.mesh = batch, refill, segment, mesh
        self.generator, self.verifier, self.work = generator.config, verifier, Work()
        self.delimiter = delimiter
        V = generator.config.vocab_size
        check_tokens(end_tokens, V, "end_tokens")
        check_tokens(plan.between, V, "plan.between")
        self._ends = np.zeros((V,), bool)
        self._ends[list(end_tokens)] = True
        self._graph, self._parameters = nnx.split(place((generator, verifier), mesh))
        self._seed, self._compilations = seed, 0
        self._front = tuple(front) if len(front) >= SHORTEST_BUCKET else ()
        config = generator.config
        self._reading = Cumulative(lambda n: generator_flops(config, 0, n, logits=0))
        self._decoding = Cumulative(lambda n: generator_flops(config, 0, n, logits=n))
        self._judging = Cumulative(lambda n: verifier.flops(0, n) if verifier is not None else 0)
        self._read_front = program(self._run_front, mesh)
        self._admit = program(self._run_admit, mesh)
        self._empty = jax.jit(self._run_empty, static_argnums=0)
        self._insert = program(_insert, mesh, donate_argnums=1)
        self._segment = program(self._run_segment, mesh, donate_argnums=1)
        self._harvest = program(_harvest, mesh)

    @property
    def compilations(self) -> int:
        """How often the search was compiled: once for each bucket of prompt lengths."""
        return self._compilations

    def check(self, prompt: Sequence[int], shown: Sequence[int] | None = None) -> None:
        """Refuses a prompt that is empty, of unknown tokens or too long; see `run`."""
        if not prompt:
            raise UserError("a prompt is empty: prompt.template must give at least one token")
        check_tokens(prompt, self.generator.vocab_size, "a prompt")
        if shown is not None and self._reads_prompt:
            assert self.verifier is not None
            check_tokens(shown, self.verifier.vocab_size, "what the verifier is shown")
        longest = len(prompt) + self.plan.context + self.plan.max_new_tokens
        answers = f"an answer of up to {self.plan.max_new_tokens}"
        if self.plan.context:
            answers += f" with up to {self.plan.earlier} earlier ones before it"
        if longest > self.generator.context:
            raise UserError(
                f"a prompt of {len(prompt)} tokens and {answers} do not fit the generator's "
                f"context of {self.generator.context} tokens; lower sampling.max_new_tokens"
            )
        if self.verifier is None or not self.verifier.context:
            return
        shown = prompt if shown is None else shown
        more = self.plan.most_shown - self.plan.max_new_tokens
        longest = len(shown) + self.plan.context + self.plan.max_new_tokens + more
        if longest > self.verifier.context:
            what = "tokens more over the bridge" if self.plan.bridged else "step markers"
            raise UserError(
                f"a prompt of {len(shown)} tokens, {answers} and {more} {what} do not "
                f"fit the verifier's context of {self.verifier.context} tokens; lower "
                "sampling.max_new_tokens" + (" or search.rounds" if more else "")
            )

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        shown: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Searches for answers to all prompts.

        Args:
          prompts: token ids, of different lengths; those of one bucket are searched together.
          numbers: each question's own number (uint32), which its draws are keyed by.
          shown: what the verifier reads of each question (`Presentation.prompt`), where it is not
            what the generator reads.

        Yields:
          A prompt's index and its outcome, in the order in which they are done.

        Raises:
          UserError: as `check`, before the first is begun; or `Failed`.
        """
        if self.verifier is not None and self.verifier.format and self.presentation is None:
            raise UserError("verifier.path: a PRM with a format of its own needs a Presentation")
        if prompts and (self.presentation is None) != (shown is None):
            raise ValueError("a Search with a presentation, and only that, is given what is shown")
        asked = list(zip(prompts, prompts if shown is None else shown, strict=True))
        groups: dict[Shape, list[int]] = {}
        for index, pair in enumerate(asked):
            self.check(*pair)
            groups.setdefault(self._shape(*pair), []).append(index)
        for shape, group in sorted(groups.items()):
            yield from self._run_group(shape, group, asked, numbers)

    def lower(self, width: int) -> dict[str, jax.stages.Lowered]:
        """The programs for prompts padded to `width` tokens (see `bucket`), ready to be compiled.

        "admit" reads one prompt a shard, "insert" puts these questions into slots, and "segment"
        searches until a slot is free. Nothing is computed: models may be outlines
        (`parameters.outline`), and the devices of the mesh need not be there.
        """
        mesh, parts = self.mesh, shards(self.mesh)
        number, id_ = (abstract((parts,), dtype, mesh, ROWS) for dtype in (np.int32, np.uint32))
        prompt = abstract((parts, width), np.int32, mesh, ROWS)
        read = (
            self._parameters,
            ((prompt, prompt), abstract((parts, 2), np.int32, mesh, ROWS), id_),
        )
        state, tables = self.state(width), (self._ends, self.delimiter)
        tables = jax.tree.map(lambda x: abstract(x.shape, x.dtype, mesh), tables)
        shared = (self._parameters, *tables, abstract((), np.int32, mesh))
        return {
            "admit": self._admit.lower(*read),
            "insert": self._insert.lower((), state, outcome(self._admit, mesh, *read), number),
            "segment": self._segment.lower(shared, state),
        }

    def state(self, width: int) -> SearchState:
        """The B slots for prompts of `width` tokens, as shapes with their shardings."""
        return outcome(functools.partial(self._run_empty, Shape(width, width)), self.mesh)

    def _shape(self, prompt: Sequence[int], shown: Sequence[int]) -> Shape:
        """Of the group in which a question is searched."""
        front = len(self._front)
        if self._front and len(prompt) > front and tuple(prompt[:front]) == self._front:
            # Of few sizes: what a short rest saves is little beside the front.
            rest = max(len(prompt) - front, 2 * SHORTEST_BUCKET + 1)
            judged = len(shown) if self._reads_prompt else 1
            return Shape(bucket(rest), bucket(judged), behind=True)
        width = bucket(max(len(prompt), len(shown)))
        return Shape(width, width)

    def _run_group(
        self, shape: Shape, group: list[int], asked: Sequence[Asked], numbers: Sequence[int]
    ) -> Iterator[tuple[int, Outcome]]:
        front = ()
        if shape.behind:
            tokens = np.tile(np.array(self._front, np.int32), (shards(self.mesh), 1))
            front = (self._read_front(self._parameters, put(tokens, self.mesh, ROWS)),)
        waiting = list(reversed(group))
        slots = np.full((shards(self.mesh), self.batch // shards(self.mesh)), NONE)
        state = self._empty(shape)
        while True:
            if self.refill or (slots == NONE).all():
                for wave in _waves(slots == NONE):
                    if not waiting:
                        break
                    new = [waiting.pop() if slot != NONE and waiting else NONE for slot in wave]
                    wave = [slot if i != NONE else NONE for slot, i in zip(wave, new, strict=True)]
                    for shard, slot in enumerate(wave):
                        slots[shard, slot] = new[shard] if slot != NONE else slots[shard, slot]
                    questions = self._admit(
                        self._parameters, self._prompts(shape, new, asked, numbers), *front
                    )
                    state = self._insert((), state, questions, self._over_shards(wave))
            if (slots == NONE).all():
                return
            # Without a question that waits for a slot, there is nothing to come back early for.
            patience = self.segment if waiting and self.refill else np.iinfo(np.int32).max
            tokens = put(np.int32(patience), self.mesh)
            state, work = self._segment((self._parameters, *self._tables, tokens), state)
            active, work = jax.device_get((state.active, work))
            self.work.useful += int(work[:, 0].sum())
            self.work.total += int(work[:, 1].sum())
            if self.plan.bridged and self.presentation is not None:
                told = bridge.tell(self.plan, self.presentation, self.delimiter, state)
                state = dataclasses.replace(state, told=put(told, self.mesh, ROWS))
            for wave in _waves((slots != NONE) & ~active.reshape(slots.shape)):
                found = jax.device_get(self._harvest((), state, self._over_shards(wave)))
                for shard, slot in enumerate(wave):
                    if slot != NONE:
                        index, slots[shard, slot] = int(slots[shard, slot]), NONE
                        one = jax.tree.map(lambda x, shard=shard: x[shard], found)
                        if one["failed"]:
                            raise Failed(index)
                        yield index, self._outcome(one, *map(len, asked[index]))

    def _prompts(
        self, shape: Shape, new: Sequence[int], asked: Sequence[Asked], numbers: Sequence[int]
    ) -> Any:
        """A new question of each shard that has one to give, as "admit" takes them."""
        none = [0], [0]  # stands for no question
        chosen = [asked[index] if index != NONE else none for index in new]
        prompts, shown = zip(*chosen, strict=True)
        if shape.behind:
            # That of no question is as short as can be, and stays.
            prompts = [prompt[len(self._front) :] or prompt for prompt in prompts]
            shown = shown if self._reads_prompt else [prompt[-1:] for prompt in shown]
        asks, lengths = pad_prompts(prompts, len(new), shape.prompt)
        judged, seen = pad_prompts(shown, len(new), shape.shown)
        ids = np.array([numbers[index] if index != NONE else 0 for index in new], np.uint32)
        return put(((asks, judged), np.stack([lengths, seen], 1), ids), self.mesh, ROWS)

    def _over_shards(self, numbers: Sequence[int]) -> jax.Array:
        """A number for each shard."""
        return put(np.array(numbers, np.int32), self.mesh, ROWS)

    @functools.cached_property
    def _tables(self) -> Any:
        """What ends an answer, and what a step."""
        return put((self._ends, self.delimiter), self.mesh)

    def _run_empty(self, shape: Shape) -> SearchState:
        """B slots without a question."""
        sizes = (1, shape.prompt), (1, shape.shown), (1, 2), (1, len(self._front))
        *prompts, lengths, front = (jax.ShapeDtypeStruct(size, np.int32) for size in sizes)
        inputs = (tuple(prompts), lengths, jax.ShapeDtypeStruct((1,), np.uint32))
        read = ()
        if shape.behind:
            read = (jax.eval_shape(self._run_front, self._parameters, front),)
        shapes = jax.eval_shape(self._run_admit, self._parameters, inputs, *read)
        return laid(jax.tree.map(lambda x: _zeros(self.batch, x), shapes), self.mesh)

    def _run_front(self, parameters: Any, tokens: jax.Array) -> PromptCache:
        generator, _ = nnx.merge(self._graph, parameters)
        return generator.prefill(tokens)[1]

    def _run_admit(
        self, parameters: Any, questions: Any, front: PromptCache | None = None
    ) -> SearchState:
        prompts, lengths, numbers = questions
        models = nnx.merge(self._graph, parameters)
        return kernel.admit(self.plan, *models, prompts, lengths, numbers, self._seed, front)

    def _run_segment(self, shared: Any, state: SearchState) -> Any:
        self._compilations += 1  # runs when traced, not when called
        parameters, ends, delimiter, tokens = shared
        models = nnx.merge(self._graph, parameters)
        state, work = kernel.segment(self.plan, *models, ends, delimiter, state, tokens)
        return state, work[None]

    def _outcome(self, found: dict[str, Any], prompt: int, shown: int) -> Outcome:
        rounds = int(found["round"])
        lineage = jax.tree.map(lambda x: x[:rounds], found["lineage"])
        if not ((lineage.parents >= 0) & (lineage.parents < self.plan.candidates)).all():
            raise UserError(
                f"search.strategy: {type(self.plan.strategy).__name__}.select returned rows beyond "
                f"0 to {self.plan.candidates - 1}"
            )
        answers = vars(found["answers"])
        if self.plan.strategy.stops_at_steps:
            answers = {name: x.swapaxes(0, 1) for name, x in answers.items()}
        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in answers.items()}
        return Outcome(
            **flat,
            lineage=lineage,
            ledger=self._cost(lineage, prompt, shown),
            # Elsewhere PRMs are not taught to score questions.
            question_score=float(found["question_score"])
            if self._reads_prompt and self.presentation is None
            else None,
            sequential=self.plan.sequential,
            revisions=self.plan.revisions,
        )

    @property
    def _reads_prompt(self) -> bool:
        return self.verifier is not None and self.verifier.vocab_size > 0

    def _cost(self, lineage: Lineage, prompt: int, shown: int) -> Ledger:
        """What a question cost.

        Its prompts are read once, but for their last tokens, which every candidate is fed
        (`KVCache`).
        """
        shared, seen, N = np.array(prompt - 1), np.array(shown - 1), self.plan.candidates
        # Rounds in which rows began to revise, for which they had read their contexts.
        again = np.flatnonzero(np.diff(lineage.answers[:, 0])) + 1
        contexts = int(lineage.contexts[again].sum())
        cost = Ledger(
            generations=N * (self.plan.lookahead + 1) * self.plan.revisions,
            prefill_tokens=int(shared) + contexts,
            decode_tokens=int((lineage.ends - lineage.starts).sum()),
            lookahead_tokens=int((lineage.looks - lineage.ends).sum()),
            verifier_tokens=(int(seen) + contexts) * self._reads_prompt
            + int((lineage.reads + lineage.peeks).sum()),
            generator_flops=int(self._reading(shared)),
            verifier_flops=int(self._judging(seen)),
        )
        kept = np.zeros(N, np.int64)  # tokens in the verifier's cache, a row
        flops = dict.fromkeys(("cached", "anew", "judged", "judged_anew"), 0)
        for r in range(len(lineage.starts)):
            context = shared + lineage.contexts[r]
            if r in again:
                kept = lineage.contexts[r]
                flops["cached"] += (self._reading(context) - self._reading(shared)).sum()
                judged = self._judging(seen + lineage.contexts[r])
                flops["judged"] += (judged - self._judging(seen)).sum()
            first, end = context + lineage.starts[r], context + lineage.looks[r]
            decoded = self._decoding(end) - self._decoding(first)
            flops["cached"] += decoded.sum()
            flops["anew"] += (decoded + self._reading(first))[end > first].sum()
            read, first = lineage.reads[r], seen + kept
            judged = self._judging(first + read + lineage.peeks[r])
            flops["judged"] += (judged - self._judging(first))[read > 0].sum()
            flops["judged_anew"] += judged[read > 0].sum()
            kept = (kept + read)[lineage.parents[r]]
        return cost + Ledger(
            generator_flops=flops["cached"],
            verifier_flops=flops["judged"],
            uncached_generator_flops=flops["anew"],
            uncached_verifier_flops=flops["judged_anew"],
        )


def check_shards(mesh: Mesh | None, batch: int, lanes: int) -> None:
    """Refuses slots or lanes that the mesh's `data` does not divide."""
    parts = shards(mesh)
    for name, value in (("batch", batch), ("execution.lanes", lanes)):
        if value % parts:
            raise UserError(f"{name} is {value}; execution.mesh.data={parts} must divide it")


class Failed(UserError):
    """A verifier's score was NaN.

    Attributes:
      index: of the prompt.
      reason: the message without it.
    """

    def __init__(self, index: int):
        self.index = index
        self.reason = "a step's score is NaN; check the weights of the generator and the verifier"
        super().__init__(f"prompt {index}: {self.reason}")


def _insert(_: Any, *slots: Any) -> SearchState:
    return insert(*slots)


def _harvest(_: Any, state: SearchState, slot: jax.Array) -> dict[str, Any]:
    """What the host wants of a question that is done; of some question, where there is none."""
    names = ("answers", "lineage", "round", "failed", "question_score")
    at = jnp.maximum(slot, 0)
    return jax.tree.map(lambda x: x[at], {name: getattr(state, name) for name in names})


def _waves(wanted: np.ndarray) -> Iterator[tuple[int, ...]]:
    """The slots that are `wanted`, [data, B / data], one a shard at a time, or `NONE`."""
    slots = (np.flatnonzero(row).tolist() for row in wanted)
    return itertools.zip_longest(*slots, fillvalue=NONE)


def _zeros(batch: int, shape: jax.ShapeDtypeStruct) -> jax.Array:
    """An array of B for a shape of 1; keys are typed, and zeros of them do not exist."""
    rows = (batch, *shape.shape[1:])
    if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), rows)
    return jnp.zeros(rows, shape.dtype)
