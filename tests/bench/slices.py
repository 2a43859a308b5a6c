"""What the TPU's compiler says of every pair of models on every slice of configs/tpu.py.

    python -m tests.bench.slices FOLDER [--pairs=llama3.2-1b,...] [--slices=v5e-8,...]

Compiles the search's main program with `ttc compile`, whose JSON it keeps in FOLDER, one file a
pair and slice; what is there is not compiled again. Then it prints two tables of all there are, one
short and one with everything: GiB of a chip that weights, caches and temporary memory take and that
are left, the time of a decode step of all rows at the chip's peaks, with caches full, and what
bounds it. Needs libtpu, no TPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from configs.tpu import PAIRS, SLICES

HEAD = ["pair", "slice", "B × N", "weights", "caches", "temporary", "left", "step", "bound by"]
HEAD += ["compiled in"]
GIB = 2**30


def main() -> None:
    """Compiles what is missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the JSON files are kept")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="of configs/tpu.py")
    parser.add_argument("--slices", default=",".join(SLICES), help="of configs/tpu.py")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    wanted = [(pair, s) for s in options.slices.split(",") for pair in options.pairs.split(",")]
    for pair, chips in tqdm(wanted, unit="program"):
        compile_one(pair, chips, options.folder / f"{pair},{chips}.json")
    found = {
        (pair, chips): _figures(json.loads(path.read_text(encoding="utf-8")))
        for chips in SLICES
        for pair in PAIRS
        if (path := options.folder / f"{pair},{chips}.json").exists()
    }
    show(["", *SLICES], [[pair, *(_brief(found, pair, s) for s in SLICES)] for pair in PAIRS])
    show(HEAD, [[*names, *figures] for names, figures in found.items()])


def show(head: list[str], rows: list[list[str]]) -> None:
    """A table in Markdown."""
    for cells in [head, ["---"] * len(head), *rows]:
        print(f"| {' | '.join(cells)} |")
    print()


def compile_one(pair: str, chips: str, path: Path) -> None:
    """Runs the command, unless the file is there."""
    if path.exists():
        return
    config = f"--config=configs/tpu.py:{pair},{chips}"
    flags = [config, f"--topology={SLICES[chips]}", "--program=segment", f"--json={path}"]
    command = [sys.executable, "-m", "ttc_jax.cli", "compile", *flags]
    done = subprocess.run(command, capture_output=True, text=True)  # 2: does not fit
    if not path.exists():
        sys.exit(f"{' '.join(command)}\n{done.stderr}")


def _brief(found: dict[tuple[str, str], list[str]], pair: str, chips: str) -> str:
    """Questions and candidates, the time of a step, and what is left."""
    if (pair, chips) not in found:
        return ""
    shape, *_, left, step, _, _ = found[pair, chips]
    return f"{shape}: {step}, {left} GiB"


def _figures(found: dict[str, Any]) -> list[str]:
    [program], held = found["programs"], found["capacity"]
    sizes = (program[f"{name}_bytes"] / GIB for name in ("weight", "cache", "temp", "left"))
    return [
        f"{held['questions']} × {held['candidates']}",
        *(f"{size:.2f}" for size in sizes),
        f"{1000 * program['roofline_seconds']:.1f} ms",
        program["bound"],
        f"{program['compile_seconds']:.0f} s",
    ]


if __name__ == "__main__":
    main()
