"""Answers questions of one's own: difficulty, the policy's strategy, search, the answer.

The question is the argument QUESTION, in quotes (behind -- if it begins with a dash); or there are
several, in the file --config.questions=FILE or on stdin: one a line, or JSON lines with "question"
and perhaps "id". With --config.policy.path=FILE, a policy that `ttc policy` wrote, each question's
difficulty decides how its --config.budget is spent; without, the section `search` does. Printed
are the answer with its reasoning, the other answers with their weights, and what it cost; with
--config.json=true a JSON object a line, in the order of the questions. Nothing is written but, with
--workdir, the records of all searches to WORKDIR/results/.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.experiments.workdir import Claim
from ttc_jax.hosts import hosts
from ttc_jax.report.console import print_solution
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks.jsonl import name_field, parse_jsonl, text_field
from ttc_jax.tasks.task import Question

# Records say their strategy, budget and seed, so that one workdir may hold many.
_PER_CALL = ("questions", "json", "budget", "policy", "selection")
_JSON_LINE = re.compile(rb'\s*\{\s*"')


def main(config: ConfigDict, workdir: Path | None = None, question: str | None = None) -> None:
    """Solves, and prints the solutions in the order of the questions; the first host does."""
    if not hosts.is_first():
        return
    questions = _questions(config, question)
    claim = (
        Claim(workdir, config, may_change=(*build.may_change(config), *_PER_CALL))
        if workdir
        else None
    )
    solver = build.solver(config, ResultsStore(workdir, claim=claim) if workdir else None)
    if claim:
        claim.take(download=True, alone=True)
    for solution in solver.solve(questions):
        found = dataclasses.asdict(solution)
        if config.json:
            print(json.dumps(found, allow_nan=False))
        else:
            print_solution(found)


def read_questions(lines: Iterable[bytes], source: str) -> list[str | Question]:
    """Returns questions from lines of UTF-8: JSON objects if the first one is, else plain text.

    Args:
      source: what errors call it.

    Raises:
      UserError: no question, or a line that is not as it must be; names the line.
    """
    lines = list(lines)
    first = next((line for line in lines if line.strip()), b"")
    found: list[str | Question] = []
    if _JSON_LINE.match(first.removeprefix(b"\xef\xbb\xbf")):
        for where, row in parse_jsonl(lines, source):
            text = text_field(row, "question", where)
            found.append(Question(name_field(row, "id", where), text, "") if "id" in row else text)
    else:
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise UserError(f"{source}:{number}: not UTF-8: {error.reason}") from error
            found += [text] if text else []
    if not found:
        raise UserError(f"{source}: no questions in it")
    return found


def _questions(config: ConfigDict, question: str | None) -> list[str | Question]:
    path = config.questions
    if question is not None:
        if path:
            raise UserError(f"{as_flag('questions', path)}: there is a question as argument too")
        return [question]
    if path:
        try:
            return read_questions(Path(path).read_bytes().splitlines(), path)
        except OSError as error:
            raise UserError(f"{as_flag('questions', path)}: {error.strerror}") from error
    if sys.stdin.isatty():
        raise UserError(
            "no question: give it as argument, in quotes, or questions by --config.questions=FILE "
            "or on stdin"
        )
    return read_questions(sys.stdin.buffer, "stdin")
