"""The scorer: a verifier reads many given solutions, and scores each of their steps.

Solutions are read in batches, and each only once: the verifier's state, and the generator's where a
verifier reads what decoding gives, goes on from step to step as it does in a search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Int

from ttc_jax.compute.flops import generator_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.sampling.decode import DecodeState, start
from ttc_jax.sampling.given import give
from ttc_jax.sampling.programs import ROWS, program, put
from ttc_jax.sampling.sampler import bucket, pad_prompts
from ttc_jax.sharding.mesh import place
from ttc_jax.verifiers.given import Shown
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

WIDEST, NARROWEST = 64, 8  # tokens of a row that are read at a time
SHORTEST = 256  # tokens of a solution that there is room for at least


class _Shape(NamedTuple):
    """The sizes that a solution is compiled for, which follow from it alone.

    So its scores do not depend on what else is read, nor on where a run was resumed.
    """

    prompt: int  # P
    answer: int  # tokens of the solution that there is room for
    width: int  # tokens that are read at a time


class _Piece(NamedTuple):
    """Tokens of a solution that are read at a time, and the places where scores stand in them."""

    tokens: list[int]
    read: list[int]


class Scorer:
    """Scores the steps of given solutions.

    Args:
      verifier: any that does not read texts.
      generator: which wrote the solutions, or is taken to have; None: the verifier needs none.
      batch: B, solutions read together; smaller batches are padded to it.
      step_format: what the verifier is shown in place of a solution's tokens.
      mesh: as in `Search`: solutions are split over `data`, weights and caches over `model`.

    Raises:
      UserError: a verifier that needs the generator, and there is none; a mesh that does not divide
        the models.
    """

    def __init__(
        self,
        verifier: Verifier,
        generator: Transformer | None = None,
        *,
        batch: int = 1,
        step_format: StepFormat | None = None,
        mesh: Mesh | None = None,
    ):
        self.batch = batch
        self._verifier, self._spec = verifier, verifier.spec
        if generator is None and needs_generator(self._spec):
            raise UserError(
                "verifier.path: reads what the generator finds of a text; name one: generator.path"
            )
        self._generator = generator.config if generator is not None else None
        if self._spec.hidden_width and self._generator is not None:
            wanted, width = self._spec.hidden_width, self._generator.width
            if wanted != width:
                raise UserError(
                    f"verifier.path: reads hidden states of width {wanted}; the generator's have "
                    f"{width}: it was made for another one"
                )
        self._format = step_format or self._spec.step_format
        self._mesh = mesh
        self._graph, self._parameters = nnx.split(place((generator, verifier), mesh))
        self._begin = program(self._run_begin, mesh)
        self._advance = program(self._run_advance, mesh, donate_argnums=1)

    def check(self, shown: Shown) -> None:
        """Refuses a solution of unknown tokens, and one too long for a model's context."""
        tokens = [*shown.prompt, *(token for step in shown.steps for token in step)]
        if not shown.prompt or not all(shown.steps):
            raise UserError("its prompt or one of its steps has no token")
        limits = {"generator": (self._generator and self._generator.context) or math.inf}
        if self._spec.reads_tokens:
            check_tokens(tokens, self._spec.vocab_size, "a solution")
            limits["verifier"] = self._spec.max_context or math.inf
        if self._generator is not None:
            check_tokens(tokens, self._generator.vocab_size, "a solution")
        length = self._format.longest(len(tokens), len(shown.steps))
        for model, limit in limits.items():
            if length > limit:
                raise UserError(
                    f"question and solution of {length} tokens do not fit the {model}'s context of "
                    f"{limit} tokens; leave it out"
                )

    def run(self, solutions: Sequence[Shown]) -> Iterator[tuple[int, list[float]]]:
        """Yields the place of each solution and the scores of its steps, as batches are done."""
        groups: dict[_Shape, list[int]] = {}
        pieces = [self._pieces(shown) for shown in solutions]
        for index, shown in enumerate(solutions):
            groups.setdefault(self._shape(shown), []).append(index)
        for shape, group in sorted(groups.items()):
            group.sort(key=lambda index: -len(pieces[index]))  # no row waits long for another
            for first in range(0, len(group), self.batch):
                part = group[first : first + self.batch]
                prompts = [solutions[index].prompt for index in part]
                found = self._read(shape, prompts, [pieces[index] for index in part])
                yield from zip(part, found, strict=True)

    def ledger(self, shown: Shown) -> Ledger:
        """Returns what it costs to score a solution."""
        tokens = sum(map(len, shown.steps))
        total = len(shown.prompt) + tokens
        cost = Ledger()
        if self._spec.reads_tokens:
            read = self._format.longest(total, len(shown.steps))
            flops = self._verifier.flops(0, read)
            cost += Ledger(verifier_tokens=read, verifier_flops=flops)
        if self._generator is not None:
            flops = generator_flops(self._generator, 0, total - 1, tokens)
            cost += Ledger(prefill_tokens=total - 1, generator_flops=flops)
        return cost

    @property
    def _every_step(self) -> bool:
        """Whether the scores of several steps come out of one reading."""
        return self._spec.every_step and self._spec.reads_tokens and self._generator is None

    def _shape(self, shown: Shown) -> _Shape:
        tokens, longest = sum(map(len, shown.steps)), max(map(len, shown.steps))
        marked = self._format.longest(tokens, len(shown.steps))
        room = max(SHORTEST, 1 << (marked - 1).bit_length())
        width = min(WIDEST, max(NARROWEST, 1 << (longest - 1).bit_length()))
        return _Shape(bucket(len(shown.prompt)), room, WIDEST if self._every_step else width)

    def _pieces(self, shown: Shown) -> list[_Piece]:
        """Returns a solution as it is read; a verifier of one score a time reads step by step."""
        width = self._shape(shown).width
        runs = list(zip(shown.steps, ([place] for place in shown.read), strict=True))
        if self._every_step:
            starts = np.cumsum([0, *map(len, shown.steps)])[:-1].tolist()
            places = [start + at for start, at in zip(starts, shown.read, strict=True)]
            runs = [([token for step in shown.steps for token in step], places)]
        return [
            _Piece(tokens[i : i + width], [at - i for at in places if i <= at < i + width])
            for tokens, places in runs
            for i in range(0, len(tokens), width)
        ]

    def _read(
        self, shape: _Shape, prompts: Sequence[list[int]], pieces: Sequence[list[_Piece]]
    ) -> list[list[float]]:
        B, turns = self.batch, max(map(len, pieces))
        padded, lengths = pad_prompts(prompts, B, shape.prompt)
        tokens = np.zeros((turns, B, 1, shape.width), np.int32)
        count = np.zeros((turns, B, 1), np.int32)
        ends = np.zeros(tokens.shape, bool)
        for row, of_row in enumerate(pieces):
            for turn, piece in enumerate(of_row):
                tokens[turn, row, 0, : len(piece.tokens)] = piece.tokens
                count[turn, row, 0] = len(piece.tokens)
                ends[turn, row, 0, piece.read] = True
        room = np.zeros((B, shape.answer), bool)
        state = self._begin(self._parameters, *put((padded, lengths, room), self._mesh, ROWS))
        found = []
        for turn in range(turns):
            chunk = put((tokens[turn], count[turn], ends[turn]), self._mesh, ROWS)
            scores, state = self._advance(self._parameters, state, chunk)
            found.append(scores)
        every = np.stack(jax.device_get(found))
        return [every[:, row][ends[:, row]].tolist() for row in range(len(pieces))]

    def _run_begin(
        self, parameters: Any, prompts: Array, lengths: Array, room: Array
    ) -> tuple[Any, DecodeState | None]:
        """Returns what has been read once prompts are; the width of `room` is that of answers."""
        generator, verifier = nnx.merge(self._graph, parameters)
        answer, decode = room.shape[1], None
        if generator is not None:
            keys = jnp.broadcast_to(jax.random.key(0), (len(prompts), 1))  # nothing is drawn
            decode = start(generator, prompts, lengths, keys, answer, context=WIDEST)
        state = verifier.init(prompts, lengths, 1, answer + WIDEST + 1)
        if self._spec.reads_tokens:
            last = take_along(prompts, lengths[:, None] - 1, 1)[..., None]
            one = jnp.ones_like(last[..., 0])
            _, state = verifier.score_steps(last, one, state, cast(DecodeState, decode))
        return state, decode

    def _run_advance(
        self,
        parameters: Any,
        states: tuple[Any, DecodeState | None],
        chunk: tuple[Int[Array, "B N T"], Int[Array, "B N"], Array],
    ) -> tuple[Array, tuple[Any, DecodeState | None]]:
        """Returns the scores at each token, and what has been read."""
        generator, verifier = nnx.merge(self._graph, parameters)
        (state, decode), (tokens, count, ends) = states, chunk
        if decode is not None and generator is not None:
            decode = give(generator, decode, tokens, count)
        shown = self._format.mark(tokens, count, ends, tokens.shape[-1])
        scores, state = verifier.score_steps(
            shown.tokens, shown.real, state, cast(DecodeState, decode)
        )
        where = jnp.clip(shown.read, 0, scores.shape[-1] - 1)
        return take_along(scores, where, -1), (state, decode)


def needs_generator(spec: VerifierSpec) -> bool:
    """Returns whether a verifier reads what decoding gives, and not just tokens or texts."""
    reads = spec.reads_tokens or spec.reads_texts
    return not reads or spec.confidence_stats or spec.hidden_width > 0
