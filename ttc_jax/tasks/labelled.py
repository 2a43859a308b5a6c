"""Solutions of which it is known where they first go wrong: ProcessBench's files, PRM800K's labels.

A file holds one JSON object a line, or one array of them (`.json`). ProcessBench's rows, which are
also the format for solutions of one's own:

    {"id": "gsm8k-0", "problem": "...", "steps": ["...", "..."], "label": 1}

`label` is the place of the first wrong step, from 0; -1: all are right. `id` may be left out, and
`question` stand for `problem`. The file's name is the subset, unless a row names a `subset`.

PRM800K's rows are the labels of its two phases as they come. Each gives the solution that was
labelled: the steps that were chosen, up to the first that was rated wrong. Rows of quality control
and screening are left out, and those that labelers gave up on, which say of no step that it is
wrong and reach no end.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.tasks.jsonl import Row, name_field, optional_field, read_jsonl, text_field

NONE: Final = -1  # the label of a solution without a wrong step
_WRONG: Final = -1  # a step's rating in PRM800K
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LabelledSolution:
    """A solution, cut into steps, and the first of them that is wrong.

    Attributes:
        id: unique among those that are read together.
        problem: the question that it answers.
        label: the place of its first wrong step, from 0; `NONE`: all are right.
        subset: what it is reported with.
        finished: whether it ends with its last step; else it was cut off behind a wrong one.
    """

    id: str
    problem: str
    steps: tuple[str, ...]
    label: int
    subset: str = ""
    finished: bool = True


def read_labelled(path: Path) -> list[LabelledSolution]:
    """Returns the solutions in a file, or in all `.json` and `.jsonl` files of a folder.

    Raises:
        UserError: no such file, none in it, a row that is of neither format (names it), or two
            solutions with one id.
    """
    found: dict[str, LabelledSolution] = {}
    for file in _files(path):
        seen = Counter[str]()
        left_out = 0
        for where, row in read_jsonl(file):
            solution = _solution(row, where, file.stem)
            if solution is None:
                left_out += 1
                continue
            name = solution.id
            if row.get("id") in (None, ""):
                # Its name is of the text, not of the row's number: rows may come and go.
                seen[name] += 1
                name += f"-{seen[name]}" if seen[name] > 1 else ""
            if name in found:
                raise UserError(f"{where}: a second solution with the id {name!r}")
            found[name] = dataclasses.replace(solution, id=name)
        if left_out:
            _log.info("%s: %d rows without a label of a whole solution left out", file, left_out)
    if not found:
        raise UserError(f"{path}: no labelled solution in it")
    return list(found.values())


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl"))


def _solution(row: Row, where: str, subset: str) -> LabelledSolution | None:
    """Returns the solution in a row; None for one that tells of no whole solution."""
    subset = optional_field(row, "subset", where, name_field) or subset
    if isinstance(row.get("label"), Mapping):
        try:
            return _prm800k(row, where, subset)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise UserError(
                f"{where}: no labels as PRM800K has them ({type(error).__name__}: {error})"
            ) from error
    problem = text_field(row, "problem" if "problem" in row else "question", where)
    steps = row.get("steps")
    if not isinstance(steps, list) or not steps:
        raise UserError(f"{where}: field 'steps' must be a list of texts")
    texts = tuple(text_field({"steps": step}, "steps", where) for step in steps)
    label = row.get("label")
    if type(label) is not int or not NONE <= label < len(texts):
        raise UserError(
            f"{where}: field 'label' must be the place of a step, 0 to {len(texts) - 1}, or {NONE}"
        )
    name = optional_field(row, "id", where, name_field)
    return LabelledSolution(_id(subset, name, problem, texts), problem, texts, label, subset)


def _prm800k(row: Row, where: str, subset: str) -> LabelledSolution | None:
    if row.get("is_quality_control_question") or row.get("is_initial_screening_question"):
        return None
    problem = text_field(row["question"], "problem", f"{where}: question")
    texts: list[str] = []
    label = NONE
    for step in row["label"]["steps"]:
        text, rating = _chosen(step)
        if text is None:
            break
        texts.append(text_field({"text": text}, "text", where))
        if rating == _WRONG:
            label = len(texts) - 1
            break
    reached_the_end = row["label"]["finish_reason"] == "solution"
    if not texts or (label == NONE and not reached_the_end):
        return None
    name = _id(subset, "", problem, tuple(texts))
    return LabelledSolution(name, problem, tuple(texts), label, subset, finished=label == NONE)


def _chosen(step: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Returns the text and the rating of a step: as it was chosen, written by hand, or left last.

    Where none was chosen labelling ended, in phase 2 with the step of the solution itself before
    the alternatives to it.
    """
    completions = step.get("completions") or []
    if step.get("chosen_completion") is not None:
        chosen = completions[step["chosen_completion"]]
    elif human := step.get("human_completion"):
        return (human["text"] if isinstance(human, Mapping) else human), None
    elif completions:
        chosen = completions[0]
    else:
        return None, None
    return chosen["text"], chosen["rating"]


def _id(subset: str, name: str, problem: str, steps: tuple[str, ...]) -> str:
    return f"{subset}/{name or hashing.of_texts(problem, *steps)}"
