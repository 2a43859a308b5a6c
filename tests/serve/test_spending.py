"""A policy that is followed, and a vote that is settled early."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.serve.running import HARD, Running, serving
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments.solution import Alternative
from ttc_jax.serve.service import check
from ttc_jax.serve.voting import certainty
from ttc_jax.verifiers.texts import TextVerifier

SURE = "04 07=11:"  # has one answer, which a model of any use writes


class Told(TextVerifier):
    """Knows which question is easy."""

    def score_texts(self, question: str, solutions: Sequence[str]) -> list[float]:
        return [0.95 if question == SURE else 0.5] * len(solutions)


# Easy questions get no more than the two samples that tell so.
POLICY = {
    "difficulty": "predicted",
    "samples": 2,
    "edges": [0.9],
    "choice": {"bin_1": {"n_2": "few"}, "bin_2": {"n_2": "few", "n_4": "more"}},
    "strategies": {
        "few": {"strategy": "best_of_n"},
        "more": {"strategy": "beam", "options": {"width": 2}},
    },
}
# One more look is worth its price where the verifier is not sure.
ALLOCATION = {
    "aggregation": "last",
    "grid": [1, 2, 4],
    "edges": [[[], [0.9]], [[], [0.9]]],
    "gains": [[0.1, 0.0], [0.1, 0.0]],
    "prices": {"n_2": {"price": 0.05, "stop_at_price": 0.5}},
}
SCORED = (f"--config.verifier.path={__name__}:Told", "--config.serve.budgets=2,4")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("policy")
    (folder / "policy.json").write_text(json.dumps(POLICY))
    (folder / "allocation.json").write_text(json.dumps(ALLOCATION))
    paths = (f"--config.{name}.path={folder}" for name in ("policy", "allocation"))
    with serving(*SCORED, *paths, warm=()) as found:
        yield found


def ask(running: Running, prompt: str, **changes: Any) -> dict[str, Any]:
    asked = {"prompt": prompt, "seed": 2, "return": ["ledger", "trace"], **changes}
    response = running.post("/completions", json=asked)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("prompt", [SURE, HARD])
def test_a_policy_spends_by_difficulty(running: Running, prompt: str):
    about = ask(running, prompt, model="embedded-generator@policy-4")["ttc"]
    easy = about["difficulty"] >= 0.9
    assert about["bin"] == (1 if easy else 2)
    assert about["strategy"] == ("few" if easy else "more")
    assert about["budget"] == len(about["trace"]) == (2 if easy else 4)
    assert about["ledger"]["generations"] == (2 if easy else 2 + 4)
    assert easy == (prompt == SURE)


@pytest.mark.parametrize(("prompt", "drawn"), [(SURE, 1), (HARD, 4)])
def test_an_allocation_spends_while_it_is_worth_it(running: Running, prompt: str, drawn: int):
    found = ask(running, prompt, model="embedded-generator@allocation-2")
    about = found["ttc"]
    assert (about["strategy"], about["budget"]) == ("allocation", 2)
    assert about["generations"] == about["ledger"]["generations"] == len(about["trace"]) == drawn
    assert about["score"] == pytest.approx(0.95 if prompt == SURE else 0.5)
    assert len({one["log_prob"] for one in about["trace"]}) == drawn  # each drawn anew
    texts = {one["text"] for one in about["trace"] if one["answer"] == about["answer"]}
    assert found["choices"][0]["text"] in texts


@pytest.mark.parametrize(
    ("field", "value"), [("budget", 4), ("confidence", 0.9), ("budget_tokens", 4000)]
)
def test_what_an_allocation_cannot_keep_is_refused(running: Running, field: str, value: float):
    asked = {"prompt": SURE, "strategy": "allocation", "budget": 2, field: value}
    if field == "budget_tokens":
        del asked["budget"]
    response = running.post("/completions", json=asked)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


def test_a_vote_that_is_settled_ends_the_search(running: Running):
    asked = {"strategy": "best_of_n", "budget": 4, "temperature": 0.2}  # all agree
    all_of_it = ask(running, SURE, **asked, confidence=0.999)
    early = ask(running, SURE, **asked, confidence=0.6)
    assert all_of_it["ttc"]["generations"] == 4
    assert early["ttc"]["generations"] == 2
    assert early["ttc"]["confidence"] == pytest.approx(0.875)
    assert early["choices"][0]["text"] == all_of_it["choices"][0]["text"]
    assert early["usage"]["completion_tokens"] < all_of_it["usage"]["completion_tokens"]


@pytest.mark.parametrize(("votes", "sure"), [((), 0.5), ((1,), 0.75), ((2,), 0.875), ((1, 1), 0.5)])
def test_certainty_is_that_of_the_first_over_the_second(votes: tuple[int, ...], sure: float):
    assert certainty([Alternative("", 0.0, n) for n in votes]) == pytest.approx(sure)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.selection.rule=best_of_n", "--config.verifier.path="], "reads scores"),
        (["--config.budget=5"], "must be one of serve.budgets"),
        (["--config.sampling.max_new_tokens=500"], "above all of serve.answer_tokens"),
        (["--config.serve.strategy=bean"], "none of serve.strategies"),
        (["--config.serve.port=70000"], "at most 65535"),
        (["--config.allocation.path=nowhere"], "no such file; ttc policy writes"),
    ],
)
def test_a_config_that_cannot_be_served_is_one_line(flags: list[str], message: str):
    with pytest.raises(UserError, match=message) as error:
        check(load_config("serve", flags))
    assert "\n" not in str(error.value)
