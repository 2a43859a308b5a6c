"""Samples as other programs write them, read as they are; what a file is its first row says.

    search-and-learn         APPROACH_completions.jsonl: the approach, `best_of_n`, `beam_search` or
                             `dvts`, becomes the strategy, the number of completions the budget
    lm-evaluation-harness    samples_TASK_DATE.jsonl of --log_samples: `repeats` responses to a
                             question, which come once a filter and are read once
    OpenAI batch             the output file, `n` choices a request, as vLLM's batches write it too.
                             It holds no right answers: they stand beside it, for batch.jsonl in
                             batch.gold.jsonl, a line a request. Several requests of one question
                             name it:

                                 {"custom_id": "request-1", "gold": "42", "question": "math/7"}

What they make of a row are rows of `ttc_jax.results.foreign` with the sample's text and the right
answer, from which the answer is read and graded there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.results.sample_files import Row, read_rows

Reader = Callable[[Row], Iterable[Row]]


class Format(NamedTuple):
    """How another program writes samples.

    Attributes:
      marks: fields that every row has, and no row of the others.
      reader: makes, for a file, what turns each of its rows into rows of ours. That raises
        ValueError, or UserError, for a row that it cannot read.
    """

    marks: frozenset[str]
    reader: Callable[[Path], Reader]


def reader_of(path: Path, row: Row) -> Reader:
    """Returns the reader of a file whose first row is `row`; our own rows stay as they are."""
    for known in _FORMATS:
        if known.marks <= row.keys():
            return known.reader(path)
    return lambda ours: (ours,)


def _search_and_learn(path: Path) -> Reader:
    approach, mark, _ = path.name.rpartition("_completions.")
    if not mark:
        raise UserError(
            f"{path}: rows of search-and-learn do not name the approach; name the file "
            f"best_of_n_completions{path.suffix}, beam_search_… or dvts_…, as it does"
        )

    def read(row: Row) -> Iterator[Row]:
        texts, scores = _at(row, "completions", list), _at(row, "scores", list)
        counts = row.get("completion_tokens")
        if not isinstance(counts, list):  # -1 of dvts: not counted
            counts = [0] * len(texts)
        if not len(texts) == len(scores) == len(counts):
            raise ValueError(
                f"{len(texts)} completions with {len(scores)} scores and {len(counts)} "
                "completion_tokens; it must be as many of each"
            )
        problem = _at(row, "problem" if "problem" in row else "question", str)
        common = {
            "question": row.get("unique_id") or hashing.name_of(problem),
            "strategy": approach,
            "budget": len(texts),
            "gold": _at(row, "answer", str),
        }
        for text, steps, count in zip(texts, scores, counts, strict=True):
            yield common | {"text": text, "step_scores": steps, "tokens": count}

    return read


def _lm_evaluation_harness(path: Path) -> Reader:
    named = re.fullmatch(r"samples_(.+?)(_\d{4}-\d\d-\d\dT.*)?", path.stem)
    task, seen = named[1] if named else path.stem, dict[int, bytes]()

    def read(row: Row) -> Iterator[Row]:
        document, responses = _at(row, "doc_id", int), _at(row, "resps", list)
        texts = responses[0] if len(responses) == 1 else None
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
            raise ValueError(
                "resps is not one list of texts; samples are of tasks that generate, and not of "
                "those that compare log-likelihoods"
            )
        digest, again = hashing.bytes_of("\0".join(texts), 8), document in seen
        if seen.setdefault(document, digest) != digest:
            raise ValueError(f"doc_id {document} comes again with other resps")
        if again:  # of another filter
            return
        common = {
            "question": f"{task}/{document}",
            "gold": _at(row, "target", str),
            "step_scores": [],
            "tokens": 0,  # which are not counted there
        }
        for text in texts:
            yield common | {"text": text}

    return read


def _batch(path: Path) -> Reader:
    answers = _gold(path.with_suffix(f".gold{path.suffix}"))

    def read(row: Row) -> Iterator[Row]:
        request = _at(row, "custom_id", str)
        if not answers:
            raise ValueError(
                "a batch's output holds no right answers; write them beside it, into "
                f'{path.stem}.gold{path.suffix}, as {{"custom_id": "{request}", "gold": "42"}}'
            )
        if request not in answers:
            raise ValueError(f"custom_id {request!r} has no line in {path.stem}.gold{path.suffix}")
        if (
            row.get("error")
            or not row.get("response")
            or _at(row, "response.status_code", int) != 200
        ):
            raise ValueError(f"request {request!r} has failed; send it again, or take it out")
        tokens = _at(row, "response.body.usage.completion_tokens", int)
        for choice in _at(row, "response.body.choices", list):
            chat = isinstance(choice, dict) and "message" in choice
            text = _at(choice, "message.content" if chat else "text", str | None)
            yield answers[request] | {"text": text or "", "step_scores": [], "tokens": tokens}
            tokens = 0  # they are counted for all choices together

    return read


def _gold(path: Path) -> dict[str, Row]:
    """The question and right answer of each request; none where there is no file."""
    found: dict[str, Row] = {}
    for number, row in read_rows(path) if path.exists() else ():
        try:
            request = _at(row, "custom_id", str)
            if request in found:
                raise ValueError(f"custom_id {request!r} comes twice")
            question = _at(row, "question", str) if "question" in row else request
            found[request] = {"question": question, "gold": _at(row, "gold", str)}
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}; mend this line") from error
    return found


def _at(row: Any, field: str, kind: Any) -> Any:
    """Returns the value of a field of a field, as "response.body"; ValueError for another kind."""
    value = row
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise ValueError(f"{field!r} is missing")
        value = value[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {str: "text", int: "an integer", list: "a list"}.get(kind, "text or null")
        raise ValueError(f"{field} is {value!r:.60}; it must be {wanted}")
    return value


_FORMATS: Final = (
    Format(frozenset({"completions", "scores"}), _search_and_learn),
    Format(frozenset({"doc_id", "resps"}), _lm_evaluation_harness),
    Format(frozenset({"custom_id", "response"}), _batch),
)
