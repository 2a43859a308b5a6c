"""From a question to its answer: difficulty, the policy's strategy, a search, a vote (paper §3).

    from ttc_jax.config import load_config
    from ttc_jax.experiments import build

    settings = ["--config.budget=16", "--config.policy.path=runs/policy"]
    solver = build.solver(load_config("countdown:solve", settings))
    for solution in solver.solve(["03 08 12 25=61:", "03 05 09=11:"]):
        print(solution.difficulty, solution.strategy, solution.budget)
        print(solution.answer)
        print(solution.reasoning)
        for other in solution.alternatives:
            print(other.answer, other.weight, other.votes)
        print(solution.ledger.generations, solution.ledger.generator_flops)

Without a policy all questions are answered by one strategy.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.asking import distinct, encode, identified, naming
from ttc_jax.experiments.fitted import Fitted
from ttc_jax.experiments.recorder import Prompted, Recorder, keep_prompts
from ttc_jax.experiments.setup import Setup
from ttc_jax.experiments.solution import Solution, elect
from ttc_jax.experiments.spending import PARALLEL, is_pool
from ttc_jax.policy import difficulty
from ttc_jax.policy_file import Entry
from ttc_jax.results.store import Key, Record, ResultsStore
from ttc_jax.results.summary import DIFFICULTY, count_candidates
from ttc_jax.search.deadline import Deadline
from ttc_jax.tasks.task import Question
from ttc_jax.verifiers.question import question_scores

PATIENCE = 3.0  # seconds after which a search shows how far it is


class _Guess(NamedTuple):
    """The estimated difficulty of a question, and what the estimate cost."""

    easiness: float | None = None
    ledger: Ledger = Ledger()
    seconds: float = 0.0
    samples: tuple[Record, ...] = ()  # that it was estimated from, if any
    cut: bool = False  # whether the deadline came before it was estimated


class _Choice(NamedTuple):
    """The strategy and budget of a question."""

    strategy: str
    budget: int
    reused: tuple[Record, ...]  # samples that the strategy need not draw again

    @property
    def generations(self) -> int:
        """The generations that are still to be drawn."""
        return max(0, self.budget - sum(record.budget for record in self.reused))


class Solver:
    """Answers questions at a generation budget.

    Models are loaded once, and a search is compiled once for each strategy, budget and bucket of
    prompt lengths. Questions that get the same strategy share its batches.

    Args:
      setup: models, prompts and limits.
      follow: the policy that chooses a question's strategy, or one strategy for all.
      budget: generations a question; tokens where the policy's budgets count these.
      rule, aggregation: how the answer is chosen from the candidates, see `results.selection`.
      store: where records of all searches go, if anywhere.
      held: records of an earlier call with these arguments, which need not be searched for again.

    Raises:
      UserError: a budget below 1, or that the policy cannot follow.
    """

    def __init__(
        self,
        setup: Setup,
        follow: Fitted | Entry,
        *,
        budget: int,
        rule: str = "best_of_n_weighted",
        aggregation: str = "last",
        store: ResultsStore | None = None,
        held: Iterable[Record] = (),
    ):
        if not isinstance(budget, int) or budget < 1:
            raise UserError(f"budget is {budget!r}; it must be a whole number of at least 1")
        self._setup, self._budget = setup, budget
        self._fitted = follow if isinstance(follow, Fitted) else None
        if isinstance(follow, Fitted):
            follow.check(budget)
            self._entries = dict(follow.strategies)
        else:
            self._entries = {follow.strategy: follow}
        self._single = "" if isinstance(follow, Fitted) else follow.strategy
        self._rule, self._aggregation = rule, aggregation
        self._store = store
        self._held: dict[Key, Record] = {record.key: record for record in held}
        self._recorders: dict[tuple[str, int], Recorder] = {}

    def changed(self, *, seed: int, rule: str) -> Solver:
        """Returns a solver with another seed and rule that shares this one's compiled searches."""
        other = copy.copy(self)
        other._setup, other._rule = dataclasses.replace(self._setup, seed=seed), rule
        return other

    def solve(
        self, questions: Sequence[str | Question], *, deadline: float | Deadline = math.inf
    ) -> list[Solution]:
        """Returns solutions in the order of the questions.

        An answer depends on the question and its id alone, not on what else is asked.

        Args:
          questions: texts, or questions where ids are to be kept. Gold answers change nothing but
            `Solution.correct`.
          deadline: on the clock of `time.monotonic`, or a `Deadline`. By then questions
            are answered from what is written, and so marked (`Solution.cut`); their ledgers
            hold what that cost.

        Raises:
          UserError: a question that is empty or does not fit the models, two of one id, a budget
            that a strategy cannot spend, or a score that is NaN.
        """
        asked = [identified(question) for question in questions]
        found = {solution.id: solution for solution in self.stream(asked, deadline=deadline)}
        return [found[question.id] for question in asked]

    def stream(
        self, questions: Sequence[str | Question], *, deadline: float | Deadline = math.inf
    ) -> Iterator[Solution]:
        """Yields solutions in the order in which they are found; see `solve`."""
        asked = [identified(question) for question in questions]
        times, left = Counter(question.id for question in asked), distinct(asked)
        guesses = dict(zip(left, self._guess(list(left.values()), deadline), strict=True))
        choices = {name: self._choose(guess) for name, guess in guesses.items()}
        groups: dict[tuple[str, int], list[Question]] = {}
        for name, choice in choices.items():
            if choice.generations and not guesses[name].cut:
                group = groups.setdefault((choice.strategy, choice.generations), [])
                group.append(left[name])

        def solution(name: str, record: Record | None, cut: bool) -> Iterator[Solution]:
            question = left.pop(name)
            found = self._solution(question, guesses[name], choices[name], record, cut)
            yield from [found] * times[name]

        for name in [name for name, choice in choices.items() if not choice.generations]:
            yield from solution(name, None, cut=False)
        for record, cut in self._records(groups, deadline):
            yield from solution(record.question, record, cut)
        for name in [*left]:
            yield from solution(name, None, cut=True)

    def _guess(self, questions: Sequence[Question], deadline: float | Deadline) -> list[_Guess]:
        """Estimates how hard the questions are, as the policy does."""
        if self._fitted is None:
            return [_Guess()] * len(questions)
        if self._fitted.difficulty == "question":
            return self._guess_by_question(questions)
        found: dict[str, Record] = {}
        cut = {question.id for question in questions}
        for record, ended in self._records(
            {(DIFFICULTY, self._fitted.samples): questions}, deadline
        ):
            found[record.question] = record
            cut -= set() if ended else {record.question}
        easiness = difficulty.predicted(
            [record for name, record in found.items() if name not in cut], self._aggregation
        )
        guesses = []
        for name in (question.id for question in questions):
            guess = _Guess(easiness.get(name), cut=name in cut)
            if record := found.get(name):
                guess = guess._replace(
                    ledger=record.ledger, seconds=record.seconds, samples=(record,)
                )
            guesses.append(guess)
        return guesses

    def _guess_by_question(self, questions: Sequence[Question]) -> list[_Guess]:
        """Estimates difficulty by the verifier's scores of the questions alone."""
        began = time.perf_counter()
        models = self._setup.models(PARALLEL)
        tokenizer, verifier = models.tokenizer, models.verifier
        if verifier is None:
            raise UserError("verifier.path is empty: question difficulty needs a PRM or an ORM")
        prompts = []
        for question in questions:
            try:
                prompts.append(self._setup.prompt.encode(question, tokenizer))
            except UserError as error:
                raise naming(question, error) from error
        scores = question_scores(verifier, prompts)
        seconds = (time.perf_counter() - began) / max(len(questions), 1)
        found = []
        for prompt, score in zip(prompts, scores, strict=True):
            flops = verifier.flops(0, len(prompt))
            cost = Ledger(
                verifier_tokens=len(prompt), verifier_flops=flops, uncached_verifier_flops=flops
            )
            found.append(_Guess(score, cost, seconds))
        return found

    def _choose(self, guess: _Guess) -> _Choice:
        if self._fitted is None:
            return _Choice(self._single, self._budget, ())
        if guess.easiness is None:  # cut off
            return _Choice("", self._budget, guess.samples)
        name, budget = self._fitted.strategy(guess.easiness, self._budget)
        entry = self._entries[name]
        alike = is_pool(entry) and not (entry.generator or entry.verifier or entry.thinking >= 0)
        return _Choice(name, budget, guess.samples if alike else ())

    def _recorder(self, strategy: str, generations: int) -> Recorder:
        key = strategy, generations
        if key not in self._recorders:
            entry = PARALLEL if strategy == DIFFICULTY else self._entries[strategy]
            self._recorders[key] = self._setup.recorder(
                strategy, entry, generations, self._seed(strategy)
            )
        return dataclasses.replace(self._recorders[key], seed=self._seed(strategy))

    def _seed(self, strategy: str) -> int:
        """Returns a search's seed; samples for difficulty have another, as they may vote too."""
        return self._setup.seed + (strategy == DIFFICULTY)

    def _records(
        self, wanted: Mapping[tuple[str, int], Sequence[Question]], deadline: float | Deadline
    ) -> Iterator[tuple[Record, bool]]:
        """Yields a record of each question that the deadline does not leave out, and if it is cut.

        They are held, or those of new searches.

        Args:
          wanted: (strategy, generations) -> questions.
        """
        prompted: dict[tuple[str, int], list[Prompted]] = {}
        held: list[Record] = []
        # A question that does not fit is found before the first search.
        for (strategy, generations), group in wanted.items():
            keys = {q.id: (q.id, strategy, generations, self._seed(strategy)) for q in group}
            known = {name: self._held[key] for name, key in keys.items() if key in self._held}
            held += known.values()
            if left := [question for question in group if question.id not in known]:
                recorder = self._recorder(strategy, generations)
                prompted[strategy, generations] = encode(recorder, left)
        yield from ((record, False) for record in held)
        for (strategy, generations), group in prompted.items():
            recorder, name = self._recorder(strategy, generations), strategy.replace("_", " ")
            if self._store is not None:
                keep_prompts(self._store.workdir, group, recorder.tokenizer)
            found = recorder.run_until(group, deadline)
            for record, cut in tqdm(
                found, name, len(group), unit="question", leave=False, delay=PATIENCE
            ):
                if self._store is not None and not cut:
                    self._store.append([record])
                yield record, cut

    def _solution(
        self,
        question: Question,
        guess: _Guess,
        choice: _Choice,
        found: Record | None,
        cut: bool,
    ) -> Solution:
        new = (found,) if found else ()
        voting = choice.reused + new
        candidates = [candidate for record in voting for candidate in record.candidates]
        best, alternatives = None, ()
        if candidates:
            best, alternatives = elect(
                candidates,
                self._rule,
                self._aggregation,
                voting[-1].sequential,
                found.choice.chosen if found and found.choice else None,
            )
        place = None
        if self._fitted is not None and guess.easiness is not None:
            place = self._fitted.policy.bin_of(guess.easiness) + 1
        return Solution(
            id=question.id,
            question=question.text,
            difficulty=guess.easiness,
            bin=place,
            strategy=choice.strategy,
            budget=choice.budget,
            answer=best.answer if best else None,
            correct=(best.correct if best else False) if question.answer else None,
            reasoning=best.text if best else "",
            alternatives=alternatives,
            candidates=count_candidates(voting),
            ledger=sum((record.ledger for record in new), guess.ledger),
            seconds=sum((record.seconds for record in new), guess.seconds),
            cut=cut,
        )
