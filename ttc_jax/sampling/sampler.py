"""The sampler: one prefill a question, then one loop that decodes all candidates to their ends."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Int

from ttc_jax.errors import UserError
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling import thoughts
from ttc_jax.sampling.decode import DecodeState, decode, start
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.keys import candidate_keys
from ttc_jax.sampling.programs import ROWS, abstract, program, put, result_shapes, shards
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.sharding.mesh import place

SHORTEST_BUCKET = 64  # tokens


class Samples(NamedTuple):
    """N candidates of B questions, on the host."""

    tokens: np.ndarray  # [B, N, T] int32, 0 behind the end
    lengths: np.ndarray  # [B, N] tokens drawn, the end token included
    log_prob: np.ndarray  # [B, N] nats
    finished: np.ndarray  # [B, N] bool; False: cut off by the length limit


def bucket(length: int) -> int:
    """Returns the tokens that a prompt is padded to: few shapes, so few compilations.

    Powers of two and the middle between them, and one more for the last token, which is not
    prefilled.
    """
    power = 1 << (length - 2).bit_length()
    middle = 3 * power // 4
    return max(SHORTEST_BUCKET, middle if length - 1 <= middle else power) + 1


def pad_prompts(
    prompts: Sequence[Sequence[int]], batch: int, width: int = 0
) -> tuple[Int[np.ndarray, "B P"], Int[np.ndarray, " B"]]:
    """Returns prompts as one array, padded on the right to `width` or their bucket, and lengths.

    Rows beyond the given prompts hold one padding token each.
    """
    width = width or bucket(max(len(prompt) for prompt in prompts))
    padded = np.zeros((batch, width), np.int32)
    lengths = np.ones((batch,), np.int32)
    for row, prompt in enumerate(prompts):
        padded[row, : len(prompt)], lengths[row] = prompt, len(prompt)
    return padded, lengths


class Sampler:
    """Samples N candidates for batches of questions.

    Args:
      model: the generator.
      end_tokens: ids that end an answer.
      candidates: N.
      max_new_tokens: longest answer, in tokens, its end token included.
      batch: B, questions decoded together; smaller batches are padded to it, so that a question's
        tokens depend neither on what else is in the batch nor on where a run was resumed.
      sampling: temperature and truncation.
      seed: of all draws.
      mesh: as in `Search`: questions are split over `data`, weights and caches over `model`.
      thinking: marks and budgets of a model that thinks before it answers.

    Raises:
      UserError: N, B or max_new_tokens below 1, or a mesh that does not divide the model or B.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        end_tokens: Sequence[int],
        candidates: int,
        max_new_tokens: int,
        batch: int = 1,
        sampling: SamplingParams | None = None,
        seed: int = 0,
        mesh: Mesh | None = None,
        thinking: Thinking | None = None,
    ):
        for name, value in (
            ("n", candidates),
            ("max_new_tokens", max_new_tokens),
            ("batch", batch),
        ):
            if value < 1:
                raise UserError(f"sampling.{name} is {value}; it must be at least 1")
        self.candidates, self.batch, self.max_new_tokens = candidates, batch, max_new_tokens
        if batch % shards(mesh):
            raise UserError(f"batch is {batch}; execution.mesh.data={shards(mesh)} must divide it")
        self.generator, self.seed, self.mesh = model.config, seed, mesh
        self._graph, self._parameters = nnx.split(place(model, mesh))
        check_tokens(end_tokens, model.config.vocab_size, "end_tokens")
        self._ends = np.zeros((model.config.vocab_size,), bool)
        self._ends[list(end_tokens)] = True
        if thinking is not None:
            thinking.check(end_tokens, model.config.vocab_size, max_new_tokens)
        self.thinking = thinking
        self._sampling, self._compilations = sampling or SamplingParams(), 0
        self._start = program(self._run_start, mesh)
        self._decode = program(self._run_decode, mesh, donate_argnums=1)

    def lower(self, width: int) -> dict[str, jax.stages.Lowered]:
        """Returns the programs for prompts padded to `width` tokens, to be compiled.

        "start" reads B prompts, "decode" writes the answers.
        """
        B, N, mesh = self.batch, self.candidates, self.mesh
        shared = (self._parameters, abstract(self._ends.shape, bool, mesh))
        active, limit = abstract((B, N), bool, mesh, ROWS), abstract((B,), np.int32, mesh, ROWS)
        return {
            "start": self._start.lower(*self._reads(width)),
            "decode": self._decode.lower(shared, self.state(width), active, limit),
        }

    def state(self, width: int) -> DecodeState:
        """Returns what "start" makes of prompts of `width` tokens, as shapes with shardings."""
        return result_shapes(self._start, self.mesh, *self._reads(width))

    def _reads(self, width: int) -> tuple[Any, ...]:
        B = self.batch
        shapes: list[tuple[tuple[int, ...], Any]] = [((B, width), np.int32), ((B,), np.int32)]
        shapes += [((B, 2), np.uint32), *([((B, 3), np.int32)] if self.thinking else [])]
        inputs = [abstract(shape, dtype, self.mesh, ROWS) for shape, dtype in shapes]
        return self._parameters, *inputs

    @functools.cached_property
    def _table(self) -> Array:
        """Which tokens end an answer."""
        return put(self._ends, self.mesh)

    def _run_start(
        self,
        parameters: Any,
        prompts: Array,
        lengths: Array,
        streams: Array,
        given: Array | None = None,
    ):
        keys = candidate_keys(streams[:, 0], streams[:, 1], self.candidates)
        model = nnx.merge(self._graph, parameters)
        thought = thoughts.begin(self.thinking, given, self.candidates)
        return start(model, prompts, lengths, keys, self.max_new_tokens, thought=thought)

    def _run_decode(self, shared: Any, state: DecodeState, active: Array, limit: Array, **options):
        self._compilations += 1  # runs when traced, not when called
        parameters, ends = shared
        model = nnx.merge(self._graph, parameters)
        options["thinking"] = self.thinking
        return decode(model, state, active, ends, None, limit, self._sampling, **options)

    @property
    def compilations(self) -> int:
        """How often the decode loop was compiled: once for each bucket of prompt lengths."""
        return self._compilations

    def check(self, prompt: Sequence[int], limit: int | None = None) -> None:
        """Refuses an empty prompt, one of unknown tokens, and one too long for the context."""
        limit = self.max_new_tokens if limit is None else limit
        context = self.generator.context
        if not prompt:
            raise UserError("a prompt is empty: prompt.template must give at least one token")
        check_tokens(prompt, self.generator.vocab_size, "a prompt")
        if len(prompt) + limit > context:
            raise UserError(
                f"a prompt of {len(prompt)} tokens and an answer of up to {limit} "
                f"(sampling.max_new_tokens) do not fit the model's context of {context} tokens"
            )

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        limits: Sequence[int] | None = None,
        thinking: Thinking | None = None,
    ) -> Samples:
        """Samples N answers to each of up to `batch` prompts.

        Args:
          prompts: token ids, of different lengths.
          numbers: each question's own number (uint32), which its draws are keyed by.
          limits: longest answer to each prompt, tokens; `max_new_tokens` when not given.
          thinking: other budgets than the sampler's own, with its marks and texts.

        Raises:
          UserError: as `check`.
        """
        return self.write(prompts, numbers, limits, thinking)[0]

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        limits: Sequence[int] | None = None,
        thinking: Thinking | None = None,
    ) -> tuple[Samples, DecodeState]:
        """Samples as `sample`, and returns also the state on the device, for `fork`."""
        given = len(prompts)
        limit = np.full((self.batch,), self.max_new_tokens, np.int32)
        limit[:given] = self.max_new_tokens if limits is None else limits
        for prompt, longest in zip(prompts, limit.tolist(), strict=False):
            self.check(prompt, longest)
        padded, lengths = pad_prompts(prompts, self.batch)
        streams = np.full((self.batch, 2), (self.seed, 0), np.uint32)
        streams[:given, 1] = numbers
        active = np.broadcast_to(
            (np.arange(self.batch) < given)[:, None], (self.batch, self.candidates)
        )
        questions = [padded, lengths, streams]
        if self.thinking is not None:
            ends = np.flatnonzero(self._ends).tolist()
            own = self.thinking.with_budgets_of(thinking, ends, self.max_new_tokens)
            budgets = np.array([own.given(prompt) for prompt in prompts], np.int32)
            questions.append(np.resize(budgets, (self.batch, 3)))
        inputs, active, limit = put((tuple(questions), active, limit), self.mesh, ROWS)
        state = self._start(self._parameters, *inputs)
        state = self._decode((self._parameters, self._table), state, active, limit)
        tokens, length, log_prob, ended = jax.device_get(
            (state.tokens, state.cache.length, state.log_prob, state.ended)
        )
        return Samples(tokens[:given], length[:given], log_prob[:given], ended[:given]), state
