"""Grades stored completions anew: which answers, verdicts and votes change with today's code.

    python -m tests.bench.regrade docs/results/gsm8k/search.jsonl.gz --task=gsm8k --path=test.jsonl

`--path` is the file with the questions' gold answers. Prints the counts, then a line for each
answer that is read otherwise.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttc_jax.tasks import load_task


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the files, grades, prints."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("files", nargs="+", type=Path, help="shards of a results store")
    flags.add_argument("--task", default="gsm8k", help="name of the data set")
    flags.add_argument("--path", required=True, help="its rows, with the gold answers")
    flags.add_argument("--split", default="test", choices=("test", "train"))
    asked = flags.parse_args(argv)
    field = "path" if asked.split == "test" else "train_path"
    task = load_task(asked.task, **{field: asked.path})
    questions = {question.id: question for question in task.questions(asked.split)}
    counts, changed = Counter[str](), []
    began = time.perf_counter()
    for record in itertools.chain.from_iterable(map(records, asked.files)):
        question = questions.get(record["question"])
        if question is None:
            counts["records of questions that --path lacks"] += 1
            continue
        old = [(x["answer"], x["correct"]) for x in record["candidates"]]
        verdicts = task.judge(question, [x["text"] for x in record["candidates"]])
        new = [(x.answer, x.correct) for x in verdicts]
        counts["records"] += 1
        counts["answers"] += len(old)
        counts["without an answer, before"] += sum(x is None for x, _ in old)
        counts["without an answer, now"] += sum(x is None for x, _ in new)
        counts["read from prose"] += sum(x.unboxed and x.answer is not None for x in verdicts)
        counts["answers read otherwise"] += sum(
            a != b for (a, _), (b, _) in zip(old, new, strict=True)
        )
        counts["wrong before, right now"] += sum(b[1] > a[1] for a, b in zip(old, new, strict=True))
        counts["right before, wrong now"] += sum(b[1] < a[1] for a, b in zip(old, new, strict=True))
        before, now = groups([x for x, _ in old]), groups([x for x, _ in new])
        counts["records whose votes fall into other groups"] += before != now
        counts["records with another winner of the majority"] += majority(before) != majority(now)
        for candidate, a, b in zip(record["candidates"], old, new, strict=True):
            if a != b:
                changed.append((question.id, question.answer, a, b, candidate["text"][-160:]))
    print(f"{time.perf_counter() - began:.1f} s")
    for name, count in counts.items():
        print(f"{count:8,d}  {name}")
    for row in changed:
        print(json.dumps(row, ensure_ascii=False))


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a shard, whatever version wrote them."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def groups(answers: Sequence[str | None]) -> set[frozenset[int]]:
    """The candidates that vote together."""
    found: dict[str, set[int]] = {}
    for i, answer in enumerate(answers):
        if answer is not None:
            found.setdefault(answer, set()).add(i)
    return set(map(frozenset, found.values()))


def majority(votes: set[frozenset[int]]) -> set[frozenset[int]]:
    """The groups with the most votes."""
    most = max(map(len, votes), default=0)
    return {group for group in votes if len(group) == most}


if __name__ == "__main__":
    main()
