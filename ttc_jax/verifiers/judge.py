"""The judge: a language model that reads texts, thinks if it is told to, and gives a verdict.

What it is asked are prompts of one bucket of lengths at a time, B together, and smaller batches are
padded: a verdict depends on its prompt, and on nothing else that is asked.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from ttc_jax import hashing
from ttc_jax.compute.flops import generator_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.indexing import take_along
from ttc_jax.models.limits import printable
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.programs import ROWS, program, put, shards
from ttc_jax.sampling.sampler import Sampler, bucket, pad_prompts
from ttc_jax.sharding.mesh import place
from ttc_jax.verifiers.judge_format import JudgeFormat


class Verdict(NamedTuple):
    """What a judge makes of a text.

    Attributes:
      score: the probability of `good` against `bad`; None of a judge that writes, and where the
        text does not fit its context.
      text: what it writes; None of a judge that scores, and where the text does not fit.
      finished: whether what it writes came to its end.
      cost: tokens read and drawn, as `verifier_tokens`, and their FLOPs.
    """

    score: float | None = None
    text: str | None = None
    finished: bool = False
    cost: Ledger = Ledger()


class _Thought(NamedTuple):
    """A prompt with a thought and the text before the verdict behind it."""

    of: int  # which of the texts
    tokens: list[int]


class LanguageJudge:
    """A language model with the format that it is asked in.

    Args:
      batch: B, prompts that are read together; rounded up to what the mesh's `data` divides.
      mesh: as in `Search`.

    Raises:
      UserError: `good` or `bad` is not one token of the judge, no token holds `stop`, or a chat is
        asked for and the tokenizer has no chat template.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        form: JudgeFormat,
        *,
        batch: int = 1,
        mesh: Mesh | None = None,
    ):
        self.form, self.config = form, model.config
        self.batch = -(-batch // shards(mesh)) * shards(mesh)
        self._model, self._tokenizer, self._mesh = model, tokenizer, mesh
        self._graph, self._parameters = nnx.split(place(model, mesh))
        self._read = program(self._run_read, mesh)
        self._verdict = tokenizer.encode(form.verdict, inside=True) if form.verdict else []
        # A judge that chooses reads no scores.
        self._outcomes = (0, 0) if form.selects else (self._token("good"), self._token("bad"))
        self._ends = set(tokenizer.eos_ids)
        if form.stop:
            stops = tokenizer.containing(form.stop).nonzero()[0].tolist()
            if not stops:
                raise UserError(
                    f"the judge's stop is {form.stop!r}, which is in no token of the judge: choose "
                    "another text"
                )
            self._ends |= set(stops)
        self._encode(form.asked("", "", ""))

    def verdicts(self, texts: Sequence[str]) -> list[Verdict]:
        """Returns the verdict on each text, which `JudgeFormat.asked` gave.

        Raises:
          UserError: a text that the judge's tokenizer cannot write.
        """
        prompts = [self._encode(text) for text in texts]
        fits = [i for i, prompt in enumerate(prompts) if self._longest(prompt) <= self._context]
        found = [Verdict()] * len(prompts)
        thoughts, costs = self._think([prompts[i] for i in fits])
        tokens = [thought.tokens for thought in thoughts]
        read = self._write(tokens) if self.form.selects else self._score(tokens)
        for at, i in enumerate(fits):
            own = [v for v, thought in zip(read, thoughts, strict=True) if thought.of == at]
            scores = [v.score for v in own if v.score is not None]
            found[i] = own[0]._replace(
                score=sum(scores) / len(scores) if scores else None,
                cost=sum((v.cost for v in own), costs[at]),
            )
        return found

    @property
    def _context(self) -> int:
        return self.config.context

    def _longest(self, prompt: Sequence[int]) -> int:
        written = self.form.tokens if self.form.selects else 0
        return len(prompt) + self.form.thought + len(self._verdict) + written

    def _encode(self, text: str) -> list[int]:
        """Returns a text as the judge reads it."""
        if not self.form.chat:
            return self._tokenizer.encode(text, add_bos=True)
        turns = [("system", self.form.system)] if self.form.system else []
        turns.append(("user", text))
        return self._tokenizer.chat([{"role": role, "content": said} for role, said in turns])

    def _token(self, name: str) -> int:
        text = getattr(self.form, name)
        tokens = self._tokenizer.encode(text, inside=True) if text else []
        if len(tokens) != 1:
            shown = printable(repr(text), 80)
            raise UserError(
                f"the judge's {name} is {shown}: must be one token of the judge, and is "
                f"{len(tokens)}"
            )
        return tokens[0]

    def _think(self, prompts: Sequence[list[int]]) -> tuple[list[_Thought], list[Ledger]]:
        """Returns the thoughts on each prompt, and what they cost."""
        costs = [Ledger()] * len(prompts)
        if not self.form.thought:
            return [_Thought(i, [*x, *self._verdict]) for i, x in enumerate(prompts)], costs
        found = []
        for part in self._batches([bucket(len(prompt)) for prompt in prompts]):
            some = [prompts[i] for i in part]
            drawn = self._thinker.sample(some, [_number(prompt) for prompt in some])
            for row, i in enumerate(part):
                lengths = drawn.lengths[row]
                costs[i] = self._cost(len(prompts[i]) - 1, lengths)
                # A token that ends the thought, or holds what does, gives way to the verdict.
                kept = lengths - drawn.finished[row]
                for tokens, length in zip(drawn.tokens[row], kept.tolist(), strict=True):
                    thought = tokens[:length].tolist()
                    found.append(_Thought(i, [*prompts[i], *thought, *self._verdict]))
        return found, costs

    def _score(self, prompts: Sequence[list[int]]) -> list[Verdict]:
        """Returns the probability of `good` against `bad` behind each prompt."""
        found = [Verdict()] * len(prompts)
        # All tokens of a prompt are read, and a bucket has one more.
        widths = [bucket(len(prompt) + 1) - 1 for prompt in prompts]
        for part in self._batches(widths):
            rows = pad_prompts([prompts[i] for i in part], self.batch, widths[part[0]])
            scores = jax.device_get(self._read(self._parameters, *put(rows, self._mesh, ROWS)))
            for i, score in zip(part, scores.tolist(), strict=False):
                tokens = len(prompts[i])
                flops = generator_flops(self.config, 0, tokens, 1)
                found[i] = Verdict(score, cost=_ledger(tokens, flops))
        return found

    def _write(self, prompts: Sequence[list[int]]) -> list[Verdict]:
        """Returns what the judge writes behind each prompt."""
        found = [Verdict()] * len(prompts)
        for part in self._batches([bucket(len(prompt)) for prompt in prompts]):
            some = [prompts[i] for i in part]
            drawn = self._writer.sample(some, [_number(prompt) for prompt in some])
            for row, i in enumerate(part):
                tokens = drawn.tokens[row, 0, : drawn.lengths[row, 0]].tolist()
                found[i] = Verdict(
                    text=self._tokenizer.decode(tokens, inside=True),
                    finished=bool(drawn.finished[row, 0]),
                    cost=self._cost(len(prompts[i]) - 1, drawn.lengths[row]),
                )
        return found

    def _cost(self, shared: int, lengths: np.ndarray) -> Ledger:
        """Returns the cost of a prompt but for its last token, and of rows drawn behind it."""
        flops = generator_flops(self.config, 0, shared, 0)
        flops += sum(generator_flops(self.config, shared, n, n) for n in lengths.tolist())
        return _ledger(shared + int(lengths.sum()), flops)

    def _batches(self, widths: Sequence[int]) -> Iterator[list[int]]:
        """Yields the places of up to B prompts at a time, all of one width."""
        groups: dict[int, list[int]] = {}
        for at, width in enumerate(widths):
            groups.setdefault(width, []).append(at)
        for group in groups.values():
            for first in range(0, len(group), self.batch):
                yield group[first : first + self.batch]

    def _run_read(
        self, parameters: Any, prompts: Int[Array, "B P"], lengths: Int[Array, " B"]
    ) -> Float[Array, " B"]:
        model = nnx.merge(self._graph, parameters)
        last = take_along(model(prompts), lengths[:, None, None] - 1, 1)[:, 0]
        good, bad = self._outcomes
        logits = model.logits(last)
        return jax.nn.sigmoid(logits[:, good] - logits[:, bad])

    @functools.cached_property
    def _thinker(self) -> Sampler:
        """Draws thoughts: those of one text, or one on each order of several answers."""
        form = self.form
        return self._sampler(form.thought, 1 if form.selects else form.samples, sorted(self._ends))

    @functools.cached_property
    def _writer(self) -> Sampler:
        return self._sampler(self.form.tokens, 1, self._tokenizer.eos_ids)

    def _sampler(self, tokens: int, candidates: int, ends: Sequence[int]) -> Sampler:
        return Sampler(
            self._model,
            end_tokens=ends,
            candidates=candidates,
            max_new_tokens=tokens,
            batch=self.batch,
            sampling=SamplingParams(self.form.temperature),
            mesh=self._mesh,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class JudgeModel:
    """A judge's format, and its model; without one the generator judges what it wrote itself.

    Attributes:
      path: as a config names it.
    """

    path: str
    form: JudgeFormat
    model: Transformer | None = None
    tokenizer: Tokenizer | None = None

    def beside(
        self,
        generator: Transformer | None,
        tokenizer: Tokenizer | None,
        *,
        batch: int = 1,
        mesh: Mesh | None = None,
    ) -> LanguageJudge:
        """Returns the judge of what a generator writes, whose weights are shared where need be.

        Args:
          batch, mesh: see `LanguageJudge`.

        Raises:
          UserError: as `LanguageJudge`; names the path.
        """
        if self.model is not None:
            generator, tokenizer = self.model, self.tokenizer
        if generator is None or tokenizer is None:
            raise no_generator(self.path)
        try:
            return LanguageJudge(generator, tokenizer, self.form, batch=batch, mesh=mesh)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error


def no_generator(path: str) -> UserError:
    """Returns the error of a generator that is to judge where there is none."""
    return UserError(
        f"{path}: the generator is to judge, and none is named; name it by generator.path, or the "
        "judge's own model in the path"
    )


def _number(prompt: Sequence[int]) -> int:
    """Returns the number that a prompt's draws are keyed by: equal prompts get equal verdicts."""
    return hashing.number_of(" ".join(map(str, prompt)))


def _ledger(tokens: int, flops: int) -> Ledger:
    return Ledger(verifier_tokens=tokens, verifier_flops=flops, uncached_verifier_flops=flops)
