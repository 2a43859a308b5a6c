"""Seconds and memory of `ttc policy` and `ttc report` on a million samples drawn elsewhere.

    python -m tests.bench.million FOLDER [--questions 500] [--samples 2000] [--rounds 1]
                                         [--json=FILE]

FOLDER gets two files in the format of `ttc_jax.results.foreign`, unless they are there already:
`scored.jsonl`, with four step scores a sample, and `votes.jsonl`, without any, which is read by
majority. Answers of a question are many, a few of them frequent (Zipf), so that votes are as close
as those of a model. Then each job runs on each file, as its own process, in turn. The figures are
wall and CPU seconds and the peak of resident memory, the median over the rounds; FILE holds them.
What the jobs wrote stays in FOLDER, for comparison with what another commit writes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STEPS = 4
ANSWERS = 200  # different ones of a question
FILES = {"scored": True, "votes": False}  # name -> whether a verifier has scored the samples
JOBS = {  # job -> its flags; {} stands for the file of samples
    "policy": ["--config=configs/countdown.py:policy", "--config.data.path={}"],
    "report": [
        "--config=configs/countdown.py:report",
        "--config.data.search={}",
        "--config.data.policy=",
    ],
}
UNSCORED = {  # job -> what it needs beside these without a verifier
    "policy": ["--config.selection.rule=majority", "--config.policy.difficulty=oracle"],
    "report": ["--config.selection.rule=majority"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the samples, runs the jobs, and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the samples and results go")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--samples", type=int, default=2000, help="of each question")
    parser.add_argument("--rounds", type=int, default=1, help="medians are over so many")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, scored in FILES.items():
        path = options.folder / f"{name}.jsonl"
        if not path.exists():
            write_samples(path, options.questions, options.samples, scored=scored)
    found: dict[str, dict[str, float]] = {}
    for name, scored in FILES.items():
        for job, named in JOBS.items():
            arguments = [
                f"--workdir={options.folder / f'{job}_{name}'}",
                *(flag.format(options.folder / f"{name}.jsonl") for flag in named),
                *([] if scored else UNSCORED[job]),
            ]
            runs = [measure([job, *arguments]) for _ in range(options.rounds)]
            key = f"{job} {name}"
            found[key] = {x: statistics.median(run[x] for run in runs) for x in runs[0]}
            shown = ", ".join(f"{value:.2f} {unit}" for unit, value in found[key].items())
            print(f"{key:<14} {shown}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def write_samples(path: Path, questions: int, samples: int, *, scored: bool) -> None:
    """Writes samples of questions of all difficulties; equal arguments give equal bytes."""
    rng = np.random.default_rng(0)
    frequent = 1 / np.arange(1, ANSWERS + 1)
    with path.open("w") as file:
        for question in range(questions):
            right = rng.integers(0, 8)  # the rank of the right answer among the frequent ones
            drawn = rng.choice(ANSWERS, samples, p=frequent / frequent.sum())
            tokens = rng.integers(50, 800, samples)
            # A verifier that is better than chance: right answers have higher scores.
            scores = rng.beta(2 + 2 * (drawn == right)[:, None], 3, (samples, STEPS)).round(4)
            for i in range(samples):
                row = {
                    "question": f"question/{question}",
                    "answer": str(7 * int(drawn[i]) + question),
                    "correct": bool(drawn[i] == right),
                    "step_scores": scores[i].tolist() if scored else [],
                    "tokens": int(tokens[i]),
                }
                file.write(json.dumps(row) + "\n")


def measure(arguments: Sequence[str]) -> dict[str, float]:
    """Runs `ttc` to its end.

    Raises:
      RuntimeError: it failed.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "ttc_jax.cli", *arguments],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ttc {' '.join(arguments)} ended with {process.returncode}")
    return {
        "s wall": time.monotonic() - start,
        "s CPU": used.ru_utime + used.ru_stime,
        "GB peak": used.ru_maxrss * 1024 / 1e9,
    }


if __name__ == "__main__":
    main()
