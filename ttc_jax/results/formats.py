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

_NOT_COUNTED: Final = -1  # what search-and-learn writes in the place of a number of tokens


class Reader:
    """Turns each row of a file into rows of ours; what are ours already stay as they are.

    Attributes:
      alone: what all samples of the file are of, where a second file with such samples is another
        run's and not more of this one's; "": a second file may hold more.
    """

    alone = ""

    def __call__(self, row: Row) -> Iterable[Row]:
        """Returns the rows that a row becomes. Raises ValueError for one that it cannot read."""
        return (row,)

    def end(self) -> None:
        """Refuses a file that lacks rows, once all have been read. Raises ValueError."""


class Format(NamedTuple):
    """How another program writes samples.

    Attributes:
      marks: fields that every row has, and no row of the others.
      reader: makes what reads a file.
    """

    marks: frozenset[str]
    reader: Callable[[Path], Reader]


def reader_of(path: Path, row: Row) -> Reader:
    """Returns the reader of a file whose first row is `row`.

    Raises:
      UserError: the file's name must say something, and does not.
    """
    for known in _FORMATS:
        if known.marks <= row.keys():
            return known.reader(path)
    return Reader()


class _SearchAndLearn(Reader):
    def __init__(self, path: Path):
        self._approach, mark, _ = path.name.rpartition("_completions.")
        if not mark:
            raise UserError(
                f"{path}: rows of search-and-learn do not name the approach; name the file "
                f"best_of_n_completions{path.suffix}, beam_search_… or dvts_…, as it does"
            )
        self._seen = set[str]()

    def __call__(self, row: Row) -> Iterator[Row]:
        texts, scores = _at(row, "completions", list), _at(row, "scores", list)
        counts = _token_counts(row, len(texts))
        if not len(texts) == len(scores) == len(counts):
            raise ValueError(
                f"{len(texts)} completions with {len(scores)} scores and {len(counts)} "
                "completion_tokens; it must be as many of each"
            )
        problem = _at(row, "problem" if "problem" in row else "question", str)
        named = _at(row, "unique_id", str) if row.get("unique_id") else ""
        question = named or hashing.name_of(problem)
        if not texts:
            raise ValueError(f"{named or problem!r:.60} has no completions; sample it again")
        if question in self._seen:
            raise ValueError(f"{named or problem!r:.60} comes twice; take one of the lines out")
        self._seen.add(question)
        common = {
            "question": question,
            "strategy": self._approach,
            "budget": len(texts),
            "gold": _at(row, "answer", str),
        }
        for text, steps, count in zip(texts, scores, counts, strict=True):
            yield common | {"text": text, "step_scores": steps, "tokens": count}


def _token_counts(row: Row, samples: int) -> list[Any]:
    """The tokens of each completion; 0 where search-and-learn writes -1, as it does for dvts."""
    counts = row.get("completion_tokens")
    if counts is None or counts == _NOT_COUNTED:
        return [0] * samples
    if not isinstance(counts, list):
        raise ValueError(f"completion_tokens is {counts!r:.60}; it must be a list, or -1")
    return [0 if count == _NOT_COUNTED else count for count in counts]


class _LmEvaluationHarness(Reader):
    def __init__(self, path: Path):
        named = re.fullmatch(r"samples_(.+?)(_\d{4}-\d\d-\d\dT.*)?", path.stem)
        self._task, self._seen = named[1] if named else path.stem, dict[int, bytes]()
        self.alone = f"the task {self._task!r}"

    def __call__(self, row: Row) -> Iterator[Row]:
        document, responses = _at(row, "doc_id", int), _at(row, "resps", list)
        texts = responses[0] if len(responses) == 1 else None
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
            raise ValueError(
                "resps is not one list of texts; samples are of tasks that generate, and not of "
                "those that compare log-likelihoods"
            )
        if not texts:
            raise ValueError(f"doc_id {document} has no responses; sample it again")
        digest, again = hashing.bytes_of("\0".join(texts), 8), document in self._seen
        if self._seen.setdefault(document, digest) != digest:
            raise ValueError(f"doc_id {document} comes again with other resps")
        if again:  # of another filter
            return
        common = {
            "question": f"{self._task}/{document}",
            "gold": _at(row, "target", str),
            "step_scores": [],
            "tokens": 0,  # which are not counted there
        }
        for text in texts:
            yield common | {"text": text}


class _Batch(Reader):
    def __init__(self, path: Path):
        self._path = path.with_suffix(f".gold{path.suffix}")
        self._gold, self._seen = _gold(self._path), set[str]()

    def __call__(self, row: Row) -> Iterator[Row]:
        request, gold = _at(row, "custom_id", str), self._path.name
        if not self._gold:
            raise ValueError(
                "a batch's output holds no right answers; write them beside it, into "
                f'{gold}, as {{"custom_id": "{request}", "gold": "42"}}'
            )
        if request not in self._gold:
            raise ValueError(f"custom_id {request!r} has no line in {gold}")
        if request in self._seen:
            raise ValueError(f"custom_id {request!r} comes twice; take one of the lines out")
        self._seen.add(request)
        if (
            row.get("error")
            or not row.get("response")
            or _at(row, "response.status_code", int) != 200
        ):
            raise ValueError(f"request {request!r} has failed; send it again, or take it out")
        choices = _at(row, "response.body.choices", list)
        if not choices:
            raise ValueError(f"request {request!r} has no choices; send it again, or take it out")
        # They are counted for all choices together.
        tokens = _at(row, "response.body.usage.completion_tokens", int)
        share, rest = divmod(tokens, len(choices))
        for place, choice in enumerate(choices):
            chat = isinstance(choice, dict) and "message" in choice
            text = _at(choice, "message.content" if chat else "text", str | None)
            of_choice = {"text": text or "", "step_scores": [], "tokens": share + (place < rest)}
            yield self._gold[request] | of_choice

    def end(self) -> None:
        if missing := [request for request in self._gold if request not in self._seen]:
            raise ValueError(
                f"{len(missing)} of {len(self._gold)} requests in {self._path.name} have no answer "
                f"here, the first {missing[0]!r}; failed ones stand in the batch's file of errors: "
                f"send them again, or take them out of {self._path.name}"
            )


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
    Format(frozenset({"completions", "scores"}), _SearchAndLearn),
    Format(frozenset({"doc_id", "resps"}), _LmEvaluationHarness),
    Format(frozenset({"custom_id", "response"}), _Batch),
)
