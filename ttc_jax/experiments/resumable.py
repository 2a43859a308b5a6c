"""The loop that fills a results store: what was killed goes on with what is left.

    questions → done → todo → claim → progress → append → wait

The jobs `run`, `sweep` and `collect` differ in what answers the questions and in what they report.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ml_collections import ConfigDict
from tqdm import tqdm

from ttc_jax.experiments.recorder import Prompted, keep_prompts
from ttc_jax.experiments.workdir import Claim
from ttc_jax.files import write_json
from ttc_jax.hosts import hosts
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.tasks.grading import unparsed_kept
from ttc_jax.tasks.task import Question


class Work(Protocol):
    """What answers questions with models, such as a `Recorder`."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that prompts are written with; None: texts are read as they are."""
        ...

    def encode(self, questions: Sequence[Question]) -> list[Prompted]:
        """Returns the questions' prompts."""
        ...

    def run(self, prompted: Sequence[Prompted]) -> Iterator[Record]:
        """Yields a record of each question, as they are done."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One way in which all questions are answered.

    Attributes:
        make: loads the models; called only where questions are left.
        key: strategy, budget and seed in the records; None where there is no other part.
        cost: of a question, in the unit of the progress bar.
        label: what the progress bar calls it.
    """

    make: Callable[[], Work]
    key: tuple[str, int, int] | None = None
    cost: int = 1
    label: str = ""


class _Ready(NamedTuple):
    """A part whose models are loaded, and the prompts that are left."""

    part: Part
    work: Work
    prompted: list[Prompted]


def fill(
    workdir: Path,
    config: ConfigDict,
    questions: Sequence[Question],
    parts: Sequence[Part],
    *,
    may_change: Collection[str],
    title: str,
    unit: str = "question",
) -> ResultsStore | None:
    """Answers the questions that the store does not hold yet, part by part.

    Of several hosts each answers a share of the questions, and all wait for each other at the end.

    Args:
        may_change: see `Claim`.
        title: of the progress bar.
        unit: of the progress bar.

    Returns:
        The store that is to be reported; None on all hosts but the first.

    Raises:
        UserError: as `Claim`, `ResultsStore` and the parts.
    """
    claim = Claim(workdir, config, may_change=may_change)
    store = ResultsStore(workdir, shard=hosts.index(), claim=claim)
    done = store.done({question.id for question in questions})
    answered = {question for question, *_ in done}

    def is_left(question: Question, part: Part) -> bool:
        if part.key is None:
            return question.id not in answered
        return (question.id, *part.key) not in done

    here = hosts.mine(questions)
    left = [[question for question in here if is_left(question, part)] for part in parts]
    total = sum(part.cost for part in parts) * len(here)
    waiting = sum(part.cost * len(todo) for part, todo in zip(parts, left, strict=True))
    ready = _ready(parts, left)
    first = list(itertools.islice(ready, 1))
    # Not before: a mistake found so far leaves the workdir free for the mended config.
    claim.take(download=sum(map(bool, left)) > 1)  # of one part alone the models are here by now
    bar = tqdm(total=total, initial=total - waiting, desc=title, unit=unit)
    with bar, unparsed_kept(workdir, hosts.index()):
        for part, work, prompted in itertools.chain(first, ready):
            first.clear()  # or its models stayed in memory
            bar.set_postfix_str(part.label)
            keep_prompts(workdir, prompted, work.tokenizer)
            for record in work.run(prompted):
                store.append([record])
                bar.update(part.cost)
    hosts.wait("all records stored")
    return store if hosts.is_first() else None


def write_timing(workdir: Path, records: Sequence[Record], summary: Mapping[str, Any]) -> str:
    """Writes WORKDIR/timing.json, and returns what it says in words.

    Raises:
        UserError: the file cannot be written.
    """
    seconds = sum(record.seconds for record in records)
    rate = summary["ledger"]["decode_tokens"] / seconds
    write_json(workdir / "timing.json", {"seconds": seconds, "tokens_per_second": rate})
    return f"{seconds:,.0f} s, {rate:,.0f} tokens/s"


def _ready(parts: Sequence[Part], left: Sequence[Sequence[Question]]) -> Iterator[_Ready]:
    for part, todo in zip(parts, left, strict=True):
        if todo:
            work = part.make()
            yield _Ready(part, work, work.encode(todo))
