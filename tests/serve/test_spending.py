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
SCORED = (f"--config.verifier.path={__name__}:Told", "--config.serve.budgets=2,4")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("policy") / "policy.json"
    path.write_text(json.dumps(POLICY))
    with serving(*SCORED, f"--config.policy.path={path}", warm=()) as found:
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
    ],
)
def test_a_config_that_cannot_be_served_is_one_line(flags: list[str], message: str):
    with pytest.raises(UserError, match=message) as error:
        check(load_config("serve", flags))
    assert "\n" not in str(error.value)
