"""Judging: labelled solutions, the verifier that scores their steps, and records of the scores."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jax
from ml_collections import ConfigDict

from ttc_jax import hashing
from ttc_jax.compute.ledger import Ledger
from ttc_jax.config import as_flag
from ttc_jax.errors import UserError, naming
from ttc_jax.experiments.recorder import Prompted
from ttc_jax.experiments.sections import (
    generator_of,
    mesh_of,
    questions_at_once,
    storage,
    task_of,
    tokenizer_of,
)
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.plugins import calling
from ttc_jax.results.store import Candidate, Record, ResultsStore
from ttc_jax.tasks.labelled import NONE, LabelledSolution, read_labelled
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.generative import GenerativeVerifier
from ttc_jax.verifiers.given import GeneratorWriter, PRMWriter, Shown, Writer
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.scorer import Scorer, needs_generator
from ttc_jax.verifiers.texts import TextVerifier, read_texts

STRATEGY: Final = "judge"  # of the records
LABELS: Final = "first_wrong_step"  # the method of a task that labels solutions itself


def solutions_of(config: ConfigDict) -> list[LabelledSolution]:
    """Returns the labelled solutions that a config names by `data.path`.

    They are those of files, or the answers in a workdir's records, which the task labels itself.

    Raises:
      UserError: no path; as `read_labelled`; a task that labels nothing; records of other
        questions.
    """
    if not config.data.path:
        raise UserError(
            f"{as_flag('data.path', '')}: name a file or folder of labelled solutions, such as "
            "ProcessBench's, or the workdir of a run whose task labels steps"
        )
    path = Path(config.data.path)
    found = _of_records(config, path) if (path / "results").is_dir() else read_labelled(path)
    return found[: config.limit or None]


def _of_records(config: ConfigDict, path: Path) -> list[LabelledSolution]:
    """Returns the answers in a workdir that came to their ends, each text to a question once."""
    task, delimiter = task_of(config.task), config.step_delimiter
    label = getattr(task, LABELS, None)
    if label is None:
        raise UserError(
            f"task.name={config.task.name}: does not tell wrong steps (it has no method {LABELS}); "
            "give a file of labelled solutions by data.path"
        )
    questions = {question.id: question for question in task.questions(config.split)}
    found: dict[str, LabelledSolution] = {}
    for record in sorted(ResultsStore(path).read(), key=lambda record: record.key):
        question = questions.get(record.question)
        if question is None:
            raise UserError(
                f"data.path={path}: {record.question!r} is no question of this task and split; set "
                "config.task and config.split as in the run's config.json"
            )
        for candidate in record.candidates:
            steps = tuple(candidate.text.removesuffix(delimiter).split(delimiter))
            name = f"{question.id}/{hashing.of_texts(*steps)}"
            if candidate.finished and all(steps) and name not in found:
                place = _labelled(label, question, steps, f"{config.task.name}.{LABELS}")
                found[name] = LabelledSolution(name, question.text, steps, place, question.level)
    return list(found.values())


def _labelled(
    label: Callable[..., Any], question: Question, steps: Sequence[str], what: str
) -> int:
    """Returns what a task, perhaps one of the user's own, says of a solution."""
    with calling(what):
        place = label(question, steps)
    if type(place) is not int or not NONE <= place < len(steps):
        raise UserError(
            f"{what} gave {place!r:.60} for {len(steps)} steps; it must be the place of one, or "
            f"{NONE}"
        )
    return place


def question_of(solution: LabelledSolution) -> Question:
    """Returns a solution as a question of the resumable loop: its record is the solution's."""
    return Question(
        id=solution.id, text=solution.problem, answer=str(solution.label), level=solution.subset
    )


@dataclasses.dataclass(frozen=True)
class Judge:
    """Scores the steps of labelled solutions.

    Attributes:
      solutions: by id.
    """

    solutions: Mapping[str, LabelledSolution]
    writer: Writer
    scorer: Scorer

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that solutions are written with."""
        return self.writer.tokenizer

    def encode(self, questions: Sequence[Question]) -> list[Prompted]:
        """Returns what stands before each solution.

        Raises:
          UserError: a solution does not fit the models; names it.
        """
        prompted = []
        for question in questions:
            with naming(question.id):
                shown = self._write(question)
                self.scorer.check(shown)
            prompted.append(Prompted(question, shown.prompt))
        return prompted

    def run(self, prompted: Sequence[Prompted]) -> Iterator[Record]:
        """Yields a record of each solution, as they are done."""
        shown = [self._write(one.question) for one in prompted]
        began = time.perf_counter()
        for index, scores in self.scorer.run(shown):
            solution = self.solutions[prompted[index].question.id]
            now = time.perf_counter()
            yield record(solution, scores, self.scorer.ledger(shown[index]), now - began)
            began = time.perf_counter()

    def _write(self, question: Question) -> Shown:
        solution = self.solutions[question.id]
        return self.writer.write(solution.problem, solution.steps, finished=solution.finished)


@dataclasses.dataclass(frozen=True)
class TextJudge:
    """The same with a verifier that reads texts: it is shown each solution up to each step's end.

    Attributes:
      solutions: by id.
      delimiter: text that is put between steps.
    """

    solutions: Mapping[str, LabelledSolution]
    verifier: TextVerifier
    delimiter: str
    tokenizer: None = None

    def encode(self, questions: Sequence[Question]) -> list[Prompted]:
        """Returns the questions, which are read as they are."""
        return [Prompted(question, []) for question in questions]

    def run(self, prompted: Sequence[Prompted]) -> Iterator[Record]:
        """Yields a record of each solution. Raises as `read_texts`; names the solution."""
        for one in prompted:
            solution, began = self.solutions[one.question.id], time.perf_counter()
            ends = range(1, len(solution.steps) + 1)
            texts = [self.delimiter.join(solution.steps[:end]) for end in ends]
            with naming(solution.id):
                scores, cost = read_texts(self.verifier, solution.problem, texts)
            yield record(solution, scores.tolist(), cost, time.perf_counter() - began)


def judge_of(config: ConfigDict, solutions: Sequence[LabelledSolution]) -> Judge | TextJudge:
    """Returns the verifier that a config names, with all that it needs to score solutions.

    The generator's weights are loaded only for a verifier that reads what decoding gives; else its
    tokenizer alone is. A PRM in a format of its own needs neither.

    Raises:
      UserError: as `load_verifier`, `load_generator` and `Scorer`, or no verifier.
    """
    mesh = mesh_of(config, jax.local_devices())
    by_id = {solution.id: solution for solution in solutions}
    verifier = load_verifier(config.verifier.path, **storage(config.verifier), mesh=mesh)
    if verifier is None:
        raise UserError(f"{as_flag('verifier.path', '')}: name the verifier that is to be judged")
    if isinstance(verifier, GenerativeVerifier):
        generator = tokenizer = None
        if verifier.source.model is None and config.generator.path:
            generator, tokenizer = generator_of(config, mesh)
        batch = questions_at_once(config, 1)
        verifier = verifier.beside(generator, tokenizer, batch=batch, mesh=mesh)
    if isinstance(verifier, TextVerifier):
        return TextJudge(by_id, verifier, config.step_delimiter)
    spec, generator = verifier.spec, None
    if spec.format is not None and spec.tokenizer is not None:
        own = spec.tokenizer
        writer = PRMWriter(PRMAdapter(verifier, own, config.step_delimiter, bridged=True), own)
    else:
        if not config.generator.path:
            raise UserError(
                f"{as_flag('generator.path', '')}: the verifier reads the generator's tokens; name "
                "the generator"
            )
        if needs_generator(spec):
            generator, tokenizer = generator_of(config, mesh)
        else:
            tokenizer = tokenizer_of(config.generator, spec.vocab_size)
        prompt = PromptFormat(**config.prompt)
        writer = GeneratorWriter(
            tokenizer,
            lambda question: prompt.encode(question, tokenizer),
            prompt.ends(tokenizer),
            config.step_delimiter,
            spec.step_format,
        )
    scorer = Scorer(
        verifier,
        generator,
        batch=questions_at_once(config, 1),
        step_format=writer.step_format,
        mesh=mesh,
    )
    return Judge(by_id, writer, scorer)


def record(
    solution: LabelledSolution, scores: Sequence[float], ledger: Ledger, seconds: float
) -> Record:
    """Returns what is kept of a solution: its steps' scores."""
    candidate = Candidate(
        tokens=(),
        text="\n".join(solution.steps),
        finished=solution.finished,
        log_prob=0.0,
        step_scores=tuple(scores),
        answer=None,
        correct=solution.label == NONE,
    )
    return Record(
        question=solution.id,
        strategy=STRATEGY,
        budget=0,
        seed=0,
        candidates=(candidate,),
        ledger=ledger,
        level=solution.subset,
        seconds=seconds,
    )
