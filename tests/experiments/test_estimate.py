"""What a job takes on chips, from programs with chosen bounds."""

import dataclasses
from typing import Any

import pytest

from ttc_jax.config import load_config
from ttc_jax.experiments.estimate import Estimate, estimate
from ttc_jax.jobs.sweep import cells_of
from ttc_jax.tpu.program import Program
from ttc_jax.tpu.topology import CHIPS

V5E = CHIPS["v5e"]
SIZES = {field.name: 0 for field in dataclasses.fields(Program) if field.type in ("int", "float")}


def program(name: str, seconds: float, **sizes: Any) -> Program:
    """A program that waits for memory so long."""
    rest = {"collectives": (), "all_collectives": (), "host_transfers": ()}
    given: dict[str, Any] = SIZES | rest | sizes
    given["bytes_accessed"] = seconds * V5E.bandwidth
    return Program(name=name, measured="", chip=V5E, **given)


SEGMENT = program("segment", 0.01, weight_bytes=3, cache_bytes=1)
ADMIT = program("admit", 0.5)


def test_questions_take_turns_in_the_slots_of_all_hosts():
    config = load_config(
        "tpu:llama3.2-1b,v5e-8"
    )  # 2 questions at once, read one on each of 2 parts
    found = estimate(config, [config], [ADMIT, SEGMENT], questions=10, hosts=2, chips=8)
    assert found is not None
    turns, tokens = 3, 2048  # 10 questions in 2 × 2 slots
    assert found.seconds == pytest.approx(turns * tokens * 0.01 + 10 / 4 * 0.5)
    assert (found.chips, found.chip_hours) == (16, pytest.approx(16 * found.seconds / 3600))


def test_a_search_of_fewer_rows_reads_less_of_the_caches():
    config = load_config("tpu:llama3.2-1b,v5e-8")
    config.execution.mesh.data = 1
    small = config.copy_and_resolve_references()
    small.sampling.n, small.execution.rows = 32, 32  # a quarter of the rows, one question
    found = estimate(config, [config, small], [ADMIT, SEGMENT], questions=2, chips=8)
    assert found is not None
    together, alone = 2048 * 0.01, 2 * 2048 * 0.01 * 3.25 / 4
    assert found.seconds == pytest.approx(together + alone + 4 * 0.5)
    assert found.what.startswith("2 searches of 2 questions")


def test_a_sweep_is_the_sum_of_its_cells():
    config = load_config("study:small_prm").stage.search
    runs = [cell.config for cell in cells_of(config)]
    every = estimate(config, runs, [ADMIT, SEGMENT], questions=7, chips=1)
    assert every is not None
    assert every.seconds > 7 * len(runs) * 0.5


def test_steps_of_a_training():
    config = load_config("countdown:generator")
    found = estimate(config, (), [program("update", 0.1)], chips=4)
    assert found is not None
    assert (found.what, found.chips) == ("6,000 steps", 4)
    assert found.seconds == pytest.approx(600)


def test_what_is_not_known_is_not_estimated():
    config = load_config("tpu:llama3.2-1b,v5e-8")  # all questions of a data set
    assert estimate(config, [config], [ADMIT, SEGMENT], chips=8) is None
    assert estimate(config, [config], [SEGMENT], questions=5, chips=8) is None  # --program=segment


def test_prices_and_half_of_the_peaks():
    found = Estimate("500 questions", 3600.0, 8)
    first, peak, half = found.lines(1.5)
    assert first == "500 questions:"
    assert peak.endswith("1.0 hours on 8 chips, 8.00 chip-hours, 12.00 at --price=1.5")
    assert half.endswith("2.0 hours on 8 chips, 16.00 chip-hours, 24.00 at --price=1.5")
    assert found.to_json(1.5)["cost"] == 12
    assert "--price" not in " ".join(found.lines(0.0))
