"""A training killed with SIGKILL and started again ends as if it had never been killed."""

from pathlib import Path

from tests.training.kill import killed_and_resumed


def test_a_kill_leaves_no_trace(tmp_path: Path) -> None:
    assert len(killed_and_resumed(tmp_path, times=1, seed=0)) == 1
