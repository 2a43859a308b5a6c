"""Every annotation of an array's shape holds when a search and a training step run."""

import subprocess
import sys
from pathlib import Path

from tests.contract_cases import CASES

ROOT = Path(__file__).parents[1]


def test_the_shapes_that_annotations_promise(tmp_path: Path):
    command = [sys.executable, "-m", "tests.contracts", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    *cases, last = done.stdout.splitlines()
    assert [line for line in cases if line in CASES] == list(CASES)
    assert last.startswith("unchecked:")
    assert len(last.split()) < 10  # beartype knows nearly all other annotations
