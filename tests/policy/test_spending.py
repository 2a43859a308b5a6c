"""How strategies spend budgets."""

import dataclasses
from pathlib import Path

import pytest

from ttc_jax.config import load_config
from ttc_jax.experiments.spending import PARALLEL, shape, spend
from ttc_jax.search.strategies import make_strategy

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("budget", "ratio", "spent"),
    [
        (16, 0.0, (16, 1)),
        (16, 1 / 16, (16, 1)),
        (16, 1 / 4, (8, 2)),
        (16, 1.0, (4, 4)),
        (16, 4.0, (2, 8)),
        (16, 16.0, (1, 16)),
        (16, 64.0, None),
        (64, 1 / 64, (64, 1)),
        (128, 1.0, None),
        (128, 2.0, (8, 16)),
        (128, 128.0, (1, 128)),
    ],
)
def test_ratios_of_sequential_to_parallel_answers(budget: int, ratio: float, spent):
    """The grid of the paper, section 6.2."""
    assert shape(make_strategy("best_of_n"), budget, 0, ratio) == spent


@pytest.mark.parametrize(("generator", "tokenizer"), [("", "t"), ("embedded:revision", "")])
def test_another_generator_brings_its_own_tokenizer(generator: str, tokenizer: str):
    config = load_config(f"{CONFIGS}/countdown.py:search", ["--config.generator.tokenizer=t"])
    run = spend(config, dataclasses.replace(PARALLEL, generator=generator), 4)
    assert run is not None
    assert run.generator.tokenizer == tokenizer
    assert run.generator.path == (generator or config.generator.path)


def test_lookahead_and_ratio_share_a_budget():
    beam = make_strategy("beam", width=2)
    assert shape(beam, 16, 1, 2.0) == (2, 4)  # two beams, four answers, two each to look
    assert shape(beam, 16, 1, 0.5) == (4, 2)
    assert shape(beam, 18, 1, 0.0) is None
