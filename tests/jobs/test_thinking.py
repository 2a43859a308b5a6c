"""Thinking length as an axis of a sweep, and configs of models that do not think."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import configure
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.experiments.sections import thinking_of
from ttc_jax.experiments.setup import with_maximum
from ttc_jax.experiments.spending import spend
from ttc_jax.experiments.workdir import Claim
from ttc_jax.jobs import sweep
from ttc_jax.policy_file import Entry
from ttc_jax.results.store import ResultsStore
from ttc_jax.sampling.thinking import ThinkingFormat

# Of the embedded task's pieces: a thought goes up to the first "=".
MARKS = {"open": "", "close": "=", "closing": " =", "continuation": "+", "maximum": 12}


@pytest.fixture(scope="module")
def config() -> ConfigDict:
    config = configure(
        "search",
        task__size=2,
        generator__path="embedded:generator",
        verifier__path="",
        selection__rule="majority",
        sampling__max_new_tokens=24,
        sweep__budgets="2",
        sweep__seeds="0",
        execution__rows=4,
        sweep__difficulty__samples=0,
    )
    with config.unlocked():
        config.thinking = ConfigDict(MARKS)
        config.sweep.strategies = ConfigDict(
            {"best_of_n": {"strategy": "best_of_n"}}
            | {f"think_{n}": {"strategy": "best_of_n", "thinking": n} for n in (1, 5)}
        )
    return config


def test_a_sweep_has_an_axis_of_thinking_lengths(config, tmp_path: Path):
    sweep.main(config, tmp_path)
    records = ResultsStore(tmp_path).read()
    longest = {"best_of_n": 12, "think_1": 1, "think_5": 5}
    assert {record.strategy for record in records} == set(longest)
    for record in records:
        assert record.ledger.decode_tokens == sum(len(x.tokens) for x in record.candidates)
        for candidate in record.candidates:
            # The closing text has one token before the mark.
            assert 1 <= candidate.thought <= longest[record.strategy] + 2
            assert "=" in candidate.text
    assert any(x.thought == 3 for r in records if r.strategy == "think_1" for x in r.candidates)


def test_a_strategy_has_its_own_maximum(config):
    run = spend(config, Entry("best_of_n", thinking=5), 2)
    assert run is not None
    own = thinking_of(run)
    assert own is not None
    assert own == with_maximum(thinking_of(config), Entry("best_of_n", thinking=5))
    assert (own.maximum, own.close) == (5, "=")
    assert with_maximum(own, Entry("best_of_n")) == own
    with pytest.raises(UserError, match="thinking=5: .* set thinking.close, such as"):
        with_maximum(None, Entry("best_of_n", thinking=5))
    silent = config.copy_and_resolve_references()
    silent.thinking.close = ""
    with pytest.raises(UserError, match="thinking=5: .* set thinking.close, such as"):
        spend(silent, Entry("best_of_n", thinking=5), 2)


def test_a_shipped_section_says_what_the_model_does():
    assert thinking_of(load_config("math")) is None
    flags = ["--config.thinking.close=</think>", "--config.thinking.maximum=0"]
    found = thinking_of(load_config("math", flags))
    assert found == ThinkingFormat(closing="\n</think>\n\n", continuation="\nWait", maximum=0)


def test_a_workdir_of_a_version_without_thinking_goes_on(tmp_path: Path):
    """But not with a model that thinks, nor the other way round."""
    old, new = load_config("math"), load_config("math")
    with old.unlocked():
        del old.thinking
    Claim(tmp_path, old, may_change=()).take()
    new.thinking.maximum = 7  # which says nothing without a mark
    Claim(tmp_path, new, may_change=build.may_change(new)).take()
    new.thinking.close = "</think>"
    with pytest.raises(UserError, match="belongs to another config"):
        Claim(tmp_path, new, may_change=build.may_change(new))
