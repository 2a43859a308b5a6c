"""Policies at budgets of tokens, where generations of strategies differ in length."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed, configure
from tests.jobs.test_policy import record as drawn
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.fitted import Fitted
from ttc_jax.jobs import policy
from ttc_jax.policy_file import Entry, read_policy
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.results.token_budgets import Spending, token_table

QUESTIONS = 60
LENGTHS = {"best_of_n": 100, "short": 10, "difficulty": 100}  # tokens of a generation
BUDGETS = (100, 200, 400)


def record(question: int, strategy: str, n: int, chance: float) -> Record:
    """A record of generations as long as the strategy's."""
    ledger = Ledger(generations=n, decode_tokens=n * LENGTHS[strategy] - n, lookahead_tokens=n)
    return dataclasses.replace(drawn(question, strategy, n, chance, 0), ledger=ledger)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """Short answers do on the easy half of the questions, and never on the hard one."""
    workdir = tmp_path_factory.mktemp("sweep")
    records = []
    for question in range(QUESTIONS):
        easy = question < QUESTIONS / 2
        chances = {"best_of_n": 0.6 if easy else 0.4, "short": 0.5 if easy else 0.0}
        chances["difficulty"] = 0.8 if easy else 0.3
        records += [record(question, name, 16, chance) for name, chance in chances.items()]
    ResultsStore(workdir).append(records)
    return workdir


@pytest.fixture
def config(swept: Path) -> ConfigDict:
    return configure(
        "policy",
        data__path=swept,
        policy__unit="tokens",
        policy__budgets=",".join(map(str, BUDGETS)),
        policy__pools="best_of_n,short",
        policy__bins=2,
        policy__resamples=50,
        policy__samples=16,
        selection__subsets=16,
        selection__rule="majority",
    )


def test_bins_get_different_lengths_at_the_same_tokens(config, tmp_path: Path):
    policy.main(config, tmp_path)
    found = read_policy(str(tmp_path))
    assert found.unit == "tokens"
    assert found.choice["bin_1"]["n_100"] == "short"
    assert found.choice["bin_2"]["n_400"] == "best_of_n"
    # Short answers find room for no more than their pool has.
    assert found.generations["short"]["n_100"] == 10
    assert found.generations["best_of_n"]["n_400"] == 4
    described = {"best_of_n": Entry("best_of_n"), "short": Entry("best_of_n", thinking=10)}
    fitted = Fitted.of(dataclasses.replace(found, strategies=described))
    assert fitted.strategy(1.0, 150) == ("short", 10)
    assert fitted.strategy(0.0, 500) == ("best_of_n", 4)

    summary = json.loads((tmp_path / "summary.json").read_text())
    gain = summary["compute_optimal"]["oracle"]["gain"]["100"]
    assert gain["mean"] > 0.1
    # The samples that told the difficulty took 1,600 tokens.
    gross, net = (summary[name]["oracle"]["100"] for name in ("efficiency", "efficiency_net"))
    assert net["ratio"] <= gross["ratio"] * 100 / 1600


def test_a_budget_pays_for_whole_generations():
    records = [record(0, "best_of_n", 16, 1.0), record(0, "short", 4, 1.0)]
    records += [record(0, "short", 8, 1.0)]  # not a pool: two searches
    spending = Spending.of(records, ["best_of_n"])
    assert spending.generations("best_of_n", 399) == 3
    assert spending.generations("best_of_n", 10_000) == 16
    assert spending.generations("best_of_n", 99) == 0
    assert spending.generations("short", 79) == 4
    assert spending.generations("short", 80) == 8
    table = token_table(records, [40, 160], spending, rule="majority")
    assert np.isnan(table.of("best_of_n")[0, 0]).all()
    assert (table.of("short") == 1).all()
    with pytest.raises(UserError, match="no strategy writes an answer in so few"):
        token_table(records, [5], spending, rule="majority")


def test_tokens_that_were_not_counted_pay_for_nothing(swept, config, tmp_path: Path):
    records = [record(0, "best_of_n", 16, 1.0), record(1, "short", 4, 1.0)]
    records.append(dataclasses.replace(records[1], question="other", ledger=Ledger(generations=4)))
    said = "^policy.unit=tokens: the tokens of 'short' for question 'other' were not counted; leave"
    with pytest.raises(UserError, match=said):
        Spending.of(records, ["best_of_n"])
    # Nor do samples that tell how hard a question is.
    held = ResultsStore(swept).read()
    uncounted = [
        dataclasses.replace(x, ledger=Ledger(generations=16)) if x.strategy == "difficulty" else x
        for x in held
    ]
    ResultsStore(tmp_path / "sweep").append(uncounted)
    with pytest.raises(UserError, match="the tokens of 'difficulty' for question"):
        policy.main(changed(config, data__path=str(tmp_path / "sweep")), tmp_path / "policy")


def test_what_tokens_cannot_be_compared_at_is_refused(config, tmp_path: Path):
    for message, fields in (
        ("pools of 1,600 tokens and generations of 100", {"policy__budgets": (50, 100)}),
        ("pools of 1,600 tokens and generations of 100", {"policy__budgets": (100, 1700)}),
        ("flops_match.large is set, which compares generations", {"flops_match__large": "x"}),
        ("policy.unit=words", {"policy__unit": "words"}),
    ):
        with pytest.raises(UserError, match=message):
            policy.main(changed(config, **fields), tmp_path)


def test_a_file_without_generations_is_refused(config, tmp_path: Path):
    policy.main(config, tmp_path)
    path = tmp_path / "policy.json"
    held = json.loads(path.read_text())
    del held["generations"]["short"]
    path.write_text(json.dumps(held))
    with pytest.raises(UserError, match="generations.short lacks n_100, of choice.bin_1"):
        read_policy(str(path))
