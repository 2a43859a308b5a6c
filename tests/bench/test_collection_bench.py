"""The benchmark of rollouts runs, and its contenders roll out the same prefixes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.bench import collection


def test_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    collection.main(["--quick", "--rounds=2", f"--json={file}"])
    figures = json.loads(file.read_text())
    assert figures["tokens_per_second"].keys() == {"ours", "shared", "repeated"}
    assert figures["ratios"].keys() == {"shared", "repeated"}
    assert all(0 < value < math.inf for value in figures["tokens_per_second"].values())
    rollouts = figures["prefixes"] * figures["settings"]["ends"]
    longest = figures["settings"]["tokens"] * rollouts
    for by_round in figures["tokens"].values():
        assert len(set(by_round)) == 1  # draws repeat
        assert rollouts <= by_round[0] <= longest
    assert 0 < figures["useful_share"] <= 1
    assert figures["settings"]["samples"] == 2
    assert "times as fast" in capsys.readouterr().out
