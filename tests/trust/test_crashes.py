"""A kill before any file operation leaves nothing that troubles the next start."""

import subprocess
import sys
from pathlib import Path

from tests.trust.crashes import SCENARIOS

ROOT = Path(__file__).parents[2]


def test_a_kill_before_any_file_operation(tmp_path: Path):
    command = [sys.executable, "-m", "tests.trust.crashes", str(tmp_path)]  # forks, without threads
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert counts.keys() == SCENARIOS.keys()
    assert all(int(count) >= 8 for count in counts.values()), counts
