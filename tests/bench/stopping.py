"""What fewer votes earn and save, replayed on pools of answers that are there already.

    python -m tests.bench.stopping [FILE] [--strategy=best_of_n] [--orders=200] [--json=FILE]

FILE holds records, as docs/results/gsm8k/samples.jsonl.gz does, which is what is read by default.
Votes that stop once they are settled, and those of the most confident answers, stand beside the
majority of all answers: accuracy, the difference to the majority and the share of its tokens, with
95 % bootstrap intervals over questions. No model is loaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from ttc_jax.results.curves import Estimate
from ttc_jax.results.record_lines import decode
from ttc_jax.results.stopping import replay

SAMPLES = Path(__file__).parents[2] / "docs" / "results" / "gsm8k" / "samples.jsonl.gz"


def main(arguments: Sequence[str] | None = None) -> None:
    """Replays, and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--strategy", default="best_of_n")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args(arguments)
    with gzip.open(options.file) as lines:
        records = [decode(line, f"{options.file}:{i}")[0] for i, line in enumerate(lines, 1)]
    records = [record for record in records if record.strategy == options.strategy]
    found = replay(records, orders=options.orders)
    sizes = sorted({len(record.candidates) for record in records})
    print(f"{len(records)} questions, {', '.join(map(str, sizes))} answers each")
    for name, one in found.items():
        told = map(percent, (one.accuracy, one.over_majority, one.tokens))
        print(f"{name:<20}" + "".join(f"{x:>24}" for x in told) + f"{one.candidates:>7.1f}")
    if options.json:
        figures = {name: dataclasses.asdict(one) for name, one in found.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def percent(estimate: Estimate) -> str:
    """An estimate with its interval, in percent."""
    mean, low, high = (100 * x for x in dataclasses.astuple(estimate))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
