"""Best-of-N: a pool of N independent candidates a question, scored and graded (paper §5.1).

The pool serves every smaller budget too; which candidate is chosen is decided on records, without a
model (`search.aggregate`, `results.curves`).
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Iterator, Sequence

from ttc_jax.compute.flops import generator_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.results.store import Candidate, Record
from ttc_jax.sampling.sampler import Sampler, Samples, bucket
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question, Task
from ttc_jax.verifiers.prm import PRMConfig
from ttc_jax.verifiers.scoring import StepScorer

STRATEGY = "best_of_n"

Prompted = tuple[Question, list[int]]


@dataclasses.dataclass(frozen=True)
class BestOfN:
    """Draws, scores and grades pools.

    Attributes:
      generator, verifier: shapes of the models, for the ledger; no verifier, no step scores.
      seed: as the sampler's; part of a record's key.
    """

    task: Task
    tokenizer: Tokenizer
    prompt: PromptFormat
    generator: ModelConfig
    sampler: Sampler
    verifier: PRMConfig | None = None
    scorer: StepScorer | None = None
    seed: int = 0

    def batches(self, questions: Sequence[Question]) -> Iterator[list[Prompted]]:
        """Questions with their prompts, as many as the sampler takes, of one bucket of length.

        The bucket is a function of the prompt alone, so that neither the other questions nor where
        a run was resumed decide on the shapes that a question is computed with.

        Raises:
          UserError: a prompt does not fit the context; names the question.
        """
        groups: dict[int, list[Prompted]] = {}
        for question in questions:
            prompt = self.prompt.encode(question.text, self.tokenizer)
            try:
                self.sampler.check(prompt)
            except UserError as error:
                raise UserError(f"{question.id}: {error}") from error
            groups.setdefault(bucket(len(prompt)), []).append((question, prompt))
        size = self.sampler.batch
        for _, group in sorted(groups.items()):
            yield from (group[start : start + size] for start in range(0, len(group), size))

    def run(self, batch: Sequence[Prompted]) -> list[Record]:
        """One record a question of a batch."""
        began = time.perf_counter()
        prompts = [prompt for _, prompt in batch]
        numbers = [zlib.crc32(question.id.encode()) for question, _ in batch]
        samples = self.sampler.sample(prompts, numbers)
        scores = self.scorer.score(prompts, samples) if self.scorer else None
        records = [
            Record(
                question=question.id,
                strategy=STRATEGY,
                seed=self.seed,
                candidates=self._candidates(question, samples, i, scores[i] if scores else None),
                ledger=self._cost(len(prompt), samples.lengths[i].tolist()),
                level=question.level,
            )
            for i, (question, prompt) in enumerate(batch)
        ]
        seconds = (time.perf_counter() - began) / len(batch)
        return [dataclasses.replace(record, seconds=seconds) for record in records]

    def _candidates(
        self,
        question: Question,
        samples: Samples,
        i: int,
        scores: Sequence[tuple[float, ...]] | None,
    ) -> tuple[Candidate, ...]:
        tokens = [
            tuple(row[:length].tolist())
            for row, length in zip(samples.tokens[i], samples.lengths[i], strict=True)
        ]
        texts = [self.tokenizer.decode(row) for row in tokens]
        return tuple(
            Candidate(
                tokens=tokens[n],
                text=texts[n],
                finished=bool(samples.finished[i, n]),
                log_prob=float(samples.log_prob[i, n]),
                step_scores=scores[n] if scores else (),
                answer=verdict.answer,
                correct=verdict.correct,
            )
            for n, verdict in enumerate(self.task.judge(question, texts))
        )

    def _cost(self, prompt: int, answers: Sequence[int]) -> Ledger:
        """What one question's pool costs.

        Its prompt is read once, but for the last token, which every candidate is fed (`KVCache`).
        """
        shared = prompt - 1
        generator = generator_flops(self.generator, 0, shared, logits=0)
        verifier = self.verifier.flops(0, shared) if self.verifier else 0
        for tokens in answers:
            generator += generator_flops(self.generator, shared, tokens, logits=tokens)
            verifier += self.verifier.flops(shared, tokens + 1) if self.verifier else 0
        read = shared + sum(answers) + len(answers)
        return Ledger(
            generations=len(answers),
            prefill_tokens=shared,
            decode_tokens=sum(answers),
            verifier_tokens=read if self.verifier else 0,
            generator_flops=generator,
            verifier_flops=verifier,
        )
