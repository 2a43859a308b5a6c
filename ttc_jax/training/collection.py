"""Monte-Carlo step values: how often the generator gets there from each step (paper §2).

Answers to each question are sampled and cut at their steps; from every different prefix the
generator finishes the answer several times, and the share of right ends is the value of that step.
A last step is worth what its answer is. Samples without a parsable answer have no step values.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ttc_jax import hashing
from ttc_jax.compute.flops import generator_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.experiments.recorder import Prompted, encode, judge
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.results.store import Candidate, Record
from ttc_jax.sampling.rollouts import Finished, Prefix, Rollouts
from ttc_jax.sampling.sampler import Samples
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question, Task, Verdict
from ttc_jax.verifiers.steps import step_ends

STRATEGY = "rollouts"  # what records call it


@dataclasses.dataclass(frozen=True)
class Draft:
    """A question's answers, whose steps have no values yet."""

    prompted: Prompted
    candidates: list[Candidate]
    steps: list[list[int]]  # tokens up to the end of each step, a list a candidate

    @functools.cached_property
    def prefixes(self) -> dict[tuple[int, ...], Prefix]:
        """What is rolled out, and where it was sampled: once, however many answers share it."""
        found: dict[tuple[int, ...], Prefix] = {}
        for n, (candidate, ends) in enumerate(zip(self.candidates, self.steps, strict=True)):
            if candidate.answer is not None:
                for end in ends[:-1]:
                    found.setdefault(candidate.tokens[:end], Prefix(n, end))
        return found


@dataclasses.dataclass(frozen=True)
class Collector:
    """Samples answers and values their steps.

    Attributes:
      sampler: draws the answers, and rolls them out.
      delimiter: ends steps.
      seed: as the sampler's; part of a record's key.
    """

    task: Task
    tokenizer: Tokenizer
    prompt: PromptFormat
    sampler: Rollouts
    delimiter: Delimiter
    seed: int = 0

    def encode(self, questions: Sequence[Question]) -> list[Prompted]:
        """The questions' prompts.

        Raises:
          UserError: one does not fit the context; names the question.
        """
        return encode(questions, self.prompt, self.tokenizer, self.sampler.check)

    def run(self, prompted: Sequence[Prompted]) -> Iterator[Record]:
        """One record a question, as they are done."""
        drafts: dict[int, Draft] = {}

        def choose(index: int, samples: Samples) -> list[Prefix]:
            drafts[index] = self._draft(prompted[index], samples)
            return list(drafts[index].prefixes.values())

        prompts = [one.tokens for one in prompted]
        numbers = [hashing.number_of(one.question.id) for one in prompted]
        began = time.perf_counter()
        for index, _, finished in self.sampler.run(prompts, numbers, choose):
            record = self._record(drafts.pop(index), finished)
            now = time.perf_counter()
            yield dataclasses.replace(record, seconds=now - began)
            began = time.perf_counter()

    def _judge(self, prompted: Prompted, texts: list[str]) -> list[Verdict]:
        before = [prompted.tokens] * len(texts)
        return judge(self.task, self.tokenizer, prompted.question, texts, before)

    def _draft(self, prompted: Prompted, samples: Samples) -> Draft:
        """What was sampled of one question, graded and cut at its steps."""
        tokens = _texts(samples.tokens, samples.lengths)
        texts = [self.tokenizer.decode(row) for row in tokens]
        candidates = [
            Candidate(
                tokens=tokens[n],
                text=texts[n],
                finished=bool(samples.finished[n]),
                log_prob=float(samples.log_prob[n]),
                step_scores=(),
                answer=verdict.answer,
                correct=verdict.correct,
                unboxed=verdict.unboxed,
            )
            for n, verdict in enumerate(self._judge(prompted, texts))
        ]
        ends = step_ends(samples.tokens, samples.lengths, samples.finished, self.delimiter)
        return Draft(prompted, candidates, [(np.flatnonzero(row) + 1).tolist() for row in ends])

    def _record(self, draft: Draft, finished: Finished) -> Record:
        question, prompt = draft.prompted.question, draft.prompted.tokens
        texts = [self.tokenizer.decode(row) for row in _texts(*finished)]
        right = [verdict.correct for verdict in self._judge(draft.prompted, texts)]
        shares = np.reshape(right, finished.lengths.shape).mean(1).tolist()
        values = dict(zip(draft.prefixes, shares, strict=True))
        candidates = tuple(
            dataclasses.replace(candidate, step_values=_step_values(candidate, ends, values))
            for candidate, ends in zip(draft.candidates, draft.steps, strict=True)
        )
        starts = [0] * len(candidates)
        starts += [
            prefix.length for prefix in draft.prefixes.values() for _ in range(self.sampler.ends)
        ]
        lengths = [len(candidate.tokens) for candidate in candidates]
        lengths += finished.lengths.reshape(-1).tolist()
        return Record(
            question=question.id,
            strategy=STRATEGY,
            budget=len(starts),
            seed=self.seed,
            candidates=candidates,
            ledger=_cost(self.sampler.generator, len(prompt), starts, lengths),
            level=question.level,
        )


def _texts(tokens: np.ndarray, lengths: np.ndarray) -> list[tuple[int, ...]]:
    """Rows of tokens, without the padding behind them."""
    rows = tokens.reshape(-1, tokens.shape[-1]).tolist()
    return [tuple(x[:n]) for x, n in zip(rows, lengths.reshape(-1).tolist(), strict=True)]


def _step_values(
    candidate: Candidate, ends: list[int], values: Mapping[tuple[int, ...], float]
) -> tuple[float, ...]:
    if candidate.answer is None:
        return ()
    return (*(values[candidate.tokens[:end]] for end in ends[:-1]), float(candidate.correct))


def _cost(
    generator: ModelConfig, prompt: int, starts: Sequence[int], lengths: Sequence[int]
) -> Ledger:
    """What a question cost, each of whose rows drew its tokens from `starts` on.

    The prompt is read once, but for its last token, which rows are fed (`KVCache`).
    """
    shared = prompt - 1
    ledger = Ledger(
        generations=len(starts),
        prefill_tokens=shared,
        decode_tokens=sum(lengths) - sum(starts),
        generator_flops=generator_flops(generator, 0, shared, logits=0),
    )
    for start, length in zip(starts, lengths, strict=True):
        drawn = length - start
        decoded = generator_flops(generator, shared + start, drawn, logits=drawn)
        again = generator_flops(generator, 0, shared + start, logits=0)
        ledger += Ledger(generator_flops=decoded, uncached_generator_flops=again + decoded)
    return ledger
