"""How many rows are decoded at a time where nobody says so."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from tests.bench.models import SMOLLM2, TINY
from ttc_jax.models.config import ModelConfig
from ttc_jax.search.execution import Execution
from ttc_jax.search.layout import Layout, chosen_lanes
from ttc_jax.search.plan import Plan
from ttc_jax.search.strategies import make_strategy
from ttc_jax.verifiers.verifier import VerifierSpec

STEPS = Plan(make_strategy("beam", width=4), 16, 256, 64)
STRAIGHT = Plan(make_strategy("best_of_n"), 16, 256, 256)


@pytest.mark.parametrize(
    ("plan", "rows", "model", "platform", "expected"),
    [
        (STEPS, 128, SMOLLM2, "cpu", 48),
        (STRAIGHT, 128, SMOLLM2, "cpu", 80),
        (STEPS, 16, SMOLLM2, "cpu", 16),  # too few to read all weights for still fewer
        (STEPS, 128, TINY, "cpu", 128),  # attention costs as much as its weights do
        (dataclasses.replace(STEPS, max_new_tokens=8192), 128, SMOLLM2, "cpu", 128),
        (STEPS, 128, SMOLLM2, "tpu", 128),
    ],
)
def test_chosen(plan: Plan, rows: int, model: ModelConfig, platform: str, expected: int) -> None:
    assert chosen_lanes(plan, rows, model, platform) == expected


@pytest.mark.parametrize(("lanes", "expected"), [(0, 48), (40, 40), (128, 0), (4000, 0)])
def test_what_is_asked_for_is_done(lanes: int, expected: int) -> None:
    """Lanes of a layout are 0 where all rows are decoded."""
    layout = Layout.of(STEPS, VerifierSpec(), None, Execution(8, lanes), SMOLLM2)
    assert layout.lanes == expected
    assert jax.default_backend() == "cpu"
