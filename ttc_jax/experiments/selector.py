"""The last stage of a search: a language model reads the candidates together, and chooses.

It picks one of them by its number (Chen et al., 2023, universal self-consistency), or writes an
answer of its own. The order in which it is shown the answers is drawn for each question; further
orders begin one place later, so that as many orders as answers show each answer once at each place.
What the orders give votes by majority. A text that names none of the answers, or holds no answer,
is not read; where none can be read, the candidates' own vote counts: weighted by scores where there
are any.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ttc_jax import hashing
from ttc_jax.experiments.solution import elect
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.results.selection import answer_score
from ttc_jax.results.store import Candidate, Choice, Record
from ttc_jax.search.deadline import Deadline
from ttc_jax.tasks.task import Question, Task
from ttc_jax.verifiers.judge import LanguageJudge, Verdict

_NUMBER = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True)
class _Order:
    """Candidates in the order in which they are shown, and the text that shows them."""

    shown: tuple[int, ...]  # indices of candidates
    text: str


@dataclasses.dataclass(frozen=True)
class Selector:
    """Lets a judge choose from the candidates of records.

    Attributes:
      task: which reads and grades an answer of the judge's own.
      tokenizer: of the generator that wrote the candidates.
    """

    judge: LanguageJudge
    task: Task
    tokenizer: Tokenizer

    def over(
        self,
        records: Iterable[tuple[Record, bool]],
        questions: Mapping[str, Question],
        deadline: float | Deadline,
    ) -> Iterator[tuple[Record, bool]]:
        """Yields records with the judge's choice, as many at a time as fill a batch.

        Those that a deadline cut off, or that come after it, stay as they are.

        Args:
          records: each with whether the deadline cut it off.
          questions: by id.
          deadline: on the clock of `time.monotonic`, or a `Deadline`.
        """
        until = Deadline.of(deadline)
        records, size = iter(records), max(1, self.judge.batch // self.judge.form.samples)
        while part := list(itertools.islice(records, size)):
            open_ = [x for x, cut in part if not cut] if not until.is_over else []
            chosen = dict(zip([x.key for x in open_], self.choose(open_, questions), strict=True))
            yield from ((chosen.get(record.key, record), cut) for record, cut in part)

    def choose(self, records: Sequence[Record], questions: Mapping[str, Question]) -> list[Record]:
        """Returns records with the judge's choice, and with what it cost."""
        began = time.perf_counter()
        orders = [self._orders(record, questions[record.question]) for record in records]
        verdicts = iter(self.judge.verdicts([order.text for one in orders for order in one]))
        found = []
        for record, own in zip(records, orders, strict=True):
            given = list(itertools.islice(verdicts, len(own)))
            read = [
                self._read(record, questions[record.question], order, verdict)
                for order, verdict in zip(own, given, strict=True)
            ]
            settled = [candidate for candidate in read if candidate is not None]
            best = elect(settled, "majority")[0] if settled else _vote(record)
            texts = tuple(verdict.text or "" for verdict in given)
            found.append(
                dataclasses.replace(
                    record,
                    choice=Choice(best, texts, len(read) - len(settled)),
                    ledger=sum((verdict.cost for verdict in given), record.ledger),
                )
            )
        seconds = (time.perf_counter() - began) / max(len(records), 1)
        return [dataclasses.replace(x, seconds=x.seconds + seconds) for x in found]

    def _orders(self, record: Record, question: Question) -> list[_Order]:
        """Returns the orders in which a judge is to read a question's candidates.

        They are the candidates that hold an answer, those of the highest scores where they are too
        many. There are none, where nothing is left to choose.
        """
        form, candidates = self.judge.form, record.candidates
        held = [n for n, candidate in enumerate(candidates) if candidate.answer is not None]
        held.sort(key=lambda n: -answer_score(candidates[n].step_scores))
        shown = sorted(held[: form.shown])
        if not shown or (not form.merges and len({candidates[n].answer for n in shown}) == 1):
            return []
        number = hashing.number_of(question.id)
        drawn = np.random.default_rng((record.seed, number)).permutation(shown).tolist()
        found = []
        for first in range(form.samples):
            first %= len(drawn)
            order = tuple(drawn[first:] + drawn[:first])
            listed = (
                form.listed(place, self._text(candidates[n])) for place, n in enumerate(order, 1)
            )
            found.append(_Order(order, form.asked(question.text, answers="".join(listed))))
        return found

    def _text(self, candidate: Candidate) -> str:
        """Returns a candidate's text behind its thought."""
        if not candidate.thought:
            return candidate.text.strip()
        return self.tokenizer.decode(candidate.tokens[candidate.thought :], inside=True).strip()

    def _read(
        self, record: Record, question: Question, order: _Order, verdict: Verdict
    ) -> Candidate | None:
        """Returns what a verdict stands for; None: it cannot be read."""
        if verdict.text is None:
            return None
        if self.judge.form.merges:
            [graded] = self.task.judge(question, [verdict.text])
            own = Candidate(
                tokens=(),
                text=verdict.text,
                finished=verdict.finished,
                log_prob=0.0,
                step_scores=(),
                answer=graded.answer,
                correct=graded.correct,
                unboxed=graded.unboxed,
            )
            return own if own.answer is not None else None
        number = _NUMBER.search(verdict.text)
        # Digits of other scripts are digits too; so many of them are no place.
        place = int(number[0][:6]) if number else 0
        return record.candidates[order.shown[place - 1]] if 1 <= place <= len(order.shown) else None


def _vote(record: Record) -> Candidate:
    """Returns the candidate that the candidates elect: by scores, where there are any."""
    scored = any(candidate.step_scores for candidate in record.candidates)
    rule = "best_of_n_weighted" if scored else "majority"
    return elect(record.candidates, rule, sequential=record.sequential)[0]
