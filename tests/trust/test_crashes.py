"""A kill or a full disk at any file operation leaves nothing that troubles the next start."""

import subprocess
import sys
from pathlib import Path

from tests.trust.crashes import SCENARIOS

ROOT = Path(__file__).parents[2]


def test_a_kill_or_a_full_disk_at_any_file_operation(tmp_path: Path):
    command = [sys.executable, "-m", "tests.trust.crashes", str(tmp_path)]  # forks, without threads
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = {name: (int(killed), int(filled)) for name, killed, filled in _rows(done.stdout)}
    assert counts.keys() == SCENARIOS.keys()
    assert all(killed >= 8 and filled >= 2 for killed, filled in counts.values()), counts


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]
