"""From questions to records: prompts, search, texts, grades (what the results store keeps)."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ttc_jax import files, hashing
from ttc_jax.errors import UserError, naming
from ttc_jax.experiments.selector import Selector
from ttc_jax.experiments.tree import tree
from ttc_jax.hosts import hosts
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.results.store import Candidate, Node, Record
from ttc_jax.search.deadline import Deadline
from ttc_jax.search.search import Failed, Search, SearchResult
from ttc_jax.search.strategies import name_of
from ttc_jax.tasks.extraction import opened_thought
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question, Task, Verdict

PROMPTS_KEPT = 3  # in prompts.txt
LONGEST_MARK = 32  # tokens at a prompt's end in which a mark that opens a thought is sought


class Prompted(NamedTuple):
    """A question, its prompt in tokens, and what a verifier reads in place of that, if it does."""

    question: Question
    tokens: list[int]
    shown: list[int] | None = None


def encode(
    questions: Sequence[Question],
    prompt: PromptFormat,
    tokenizer: Tokenizer,
    check: Callable[..., None],
    show: Callable[[str], list[int]] | None = None,
) -> list[Prompted]:
    """Returns the questions' prompts.

    Args:
      check: is given a question's prompt, and what `show` gives, if there is one.

    Raises:
      UserError: `check` or the tokenizer refuses one; names the question.
    """
    prompted = []
    for question in questions:
        with naming(question.id):
            tokens = prompt.encode(question, tokenizer)
            shown = show(question.text) if show is not None else None
            check(tokens, *([] if shown is None else [shown]))
        prompted.append(Prompted(question, tokens, shown))
    return prompted


def keep_prompts(workdir: Path, prompted: Sequence[Prompted], tokenizer: Tokenizer | None) -> None:
    """Writes WORKDIR/prompts.txt once: the first prompts as the generator reads them.

    Each is there as text, with special tokens and all that a chat template adds, and as token ids.
    Without a tokenizer texts are read as they are, and there is no such file.

    Raises:
      UserError: the file cannot be written.
    """
    path = workdir / "prompts.txt"
    if tokenizer is None or path.exists() or not prompted or not hosts.is_first():
        return
    parts = []
    for question, tokens, _ in prompted[:PROMPTS_KEPT]:
        text = tokenizer.decode(tokens, special=True)
        parts += [f"--- {question.id}, {len(tokens)} tokens", text, "--- its token ids"]
        parts += [" ".join(map(str, tokens)), ""]
    files.write(path, "\n".join(parts))


def judge(
    task: Task,
    tokenizer: Tokenizer,
    question: Question,
    texts: Sequence[str],
    before: Sequence[Sequence[int]],
) -> list[Verdict]:
    """Returns a verdict on each answer to a question.

    Where the prompt ends with the mark that opens a thought, as some chat templates do, the task is
    given each answer behind that mark: else a box in a thought that is cut off would be an answer.

    Args:
      texts: of the answers, as they are stored.
      before: of each answer, the tokens that stand before it.
    """
    ends = [tuple(tokens[-LONGEST_MARK:]) for tokens in before]
    marks = {end: opened_thought(tokenizer.decode(end, special=True)) for end in {*ends}}
    return task.judge(question, [marks[end] + text for end, text in zip(ends, texts, strict=True)])


@dataclasses.dataclass(frozen=True)
class Recorder:
    """Answers questions of a task with a search, and grades the answers.

    Attributes:
      strategy: what the records call the search; by default the name of its strategy.
      seed: of all draws, in place of the search's own; part of a record's key.
      trees: ids of the questions whose records keep the search tree.
      selector: lets a judge choose from what the search has found; None: it votes.
    """

    task: Task
    tokenizer: Tokenizer
    prompt: PromptFormat
    search: Search
    strategy: str = ""
    seed: int = 0
    trees: frozenset[str] = frozenset()
    selector: Selector | None = None

    def __post_init__(self) -> None:
        if not self.strategy:
            object.__setattr__(self, "strategy", name_of(self.search.plan.strategy))

    def encode(self, questions: Sequence[Question]) -> list[Prompted]:
        """Returns the questions' prompts.

        Raises:
          UserError: one does not fit the context; names the question.
        """
        adapter = self.search.adapter
        show = None if adapter is None else adapter.prompt
        return encode(questions, self.prompt, self.tokenizer, self.search.check, show)

    def run(self, prompted: Sequence[Prompted]) -> Iterator[Record]:
        """Yields a record of each question, as they are done.

        Raises:
          UserError: a verifier's score is NaN; names the question.
        """
        for record, _ in self.run_until(prompted, math.inf):
            yield record

    def run_until(
        self, prompted: Sequence[Prompted], deadline: float | Deadline
    ) -> Iterator[tuple[Record, bool]]:
        """Yields records as `run`, each with whether the deadline cut it off.

        Args:
          deadline: on the clock of `time.monotonic`, or a `Deadline`; questions that it
            leaves out have no record.
        """
        found = self._searched(prompted, deadline)
        if self.selector is None:
            return found
        questions = {one.question.id: one.question for one in prompted}
        return self.selector.over(found, questions, deadline)

    def _searched(
        self, prompted: Sequence[Prompted], deadline: float | Deadline
    ) -> Iterator[tuple[Record, bool]]:
        numbers = [hashing.number_of(one.question.id) for one in prompted]
        shown = [one.shown for one in prompted if one.shown is not None] or None
        began = time.perf_counter()
        try:
            tokens = [one.tokens for one in prompted]
            found = self.search.run(tokens, numbers, shown, seed=self.seed, deadline=deadline)
            for index, outcome in found:
                record = self.record(prompted[index], outcome)
                now = time.perf_counter()
                yield dataclasses.replace(record, seconds=now - began), outcome.cut
                began = time.perf_counter()
        except Failed as error:
            raise UserError(f"{prompted[error.index].question.id}: {error.reason}") from error

    def record(self, prompted: Prompted, outcome: SearchResult) -> Record:
        """Returns what is kept of a question's result."""
        question = prompted.question
        tokens = [
            tuple(row[:length].tolist())
            for row, length in zip(outcome.tokens, outcome.lengths, strict=True)
        ]
        texts = [self.tokenizer.decode(row) for row in tokens]
        before = [
            self.search.plan.between if outcome.is_revised(n) else prompted.tokens
            for n in range(len(texts))
        ]
        if outcome.thoughts:  # the answer alone is graded
            answers = [
                self.tokenizer.decode(row[outcome.thoughts[n] :], inside=outcome.thoughts[n] > 0)
                for n, row in enumerate(tokens)
            ]
            verdicts = self.task.judge(question, answers)
        else:
            verdicts = judge(self.task, self.tokenizer, question, texts, before)
        candidates = tuple(
            Candidate(
                tokens=tokens[n],
                text=texts[n],
                finished=bool(outcome.finished[n]),
                log_prob=float(outcome.log_prob[n]),
                step_scores=outcome.scores_of(n),
                answer=verdict.answer,
                correct=verdict.correct,
                unboxed=verdict.unboxed,
                thought=outcome.thought_of(n),
            )
            for n, verdict in enumerate(verdicts)
        )
        kept: tuple[Node, ...] = ()
        if question.id in self.trees:
            kept = tree(outcome, self.search.plan, self.tokenizer, self.search.delimiter)
        return Record(
            question=question.id,
            strategy=self.strategy,
            budget=outcome.ledger.generations,
            seed=self.seed,
            candidates=candidates,
            ledger=outcome.ledger,
            sequential=outcome.sequential,
            level=question.level,
            question_score=outcome.question_score,
            tree=kept,
        )
