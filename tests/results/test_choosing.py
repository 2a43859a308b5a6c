"""Rules and aggregations beside each other, on candidates whose scores are known."""

import dataclasses

import pytest

from ttc_jax.compute.ledger import Ledger
from ttc_jax.report.console import label
from ttc_jax.results.choosing import summarise_choosing
from ttc_jax.results.selection import AGGREGATIONS
from ttc_jax.results.store import Candidate, Record


def pool(question: str, *answers: tuple[str, tuple[float, ...]]) -> Record:
    """Of candidates with their steps' scores, where the answer "right" is."""
    candidates = tuple(
        Candidate((1,), text, True, -1.0, scores, text, text == "right") for text, scores in answers
    )
    return Record(question, "best_of_n", len(candidates), 0, candidates, Ledger())


# The last step knows who is right, the least of all steps does not: it is fooled by a doubt at
# first. Two wrong answers of three decide by majority.
FOOLED = pool("q/0", ("right", (0.1, 0.9)), ("wrong", (0.5, 0.3)), ("wrong", (0.5, 0.4)))
CLEAR = pool("q/1", ("right", (0.9, 0.9)), ("right", (0.8, 0.7)), ("wrong", (0.6, 0.2)))


def test_each_rule_is_judged_on_the_same_candidates():
    found = summarise_choosing([FOOLED, CLEAR], [1, 3])
    at_3 = {rule: curve["3"]["mean"] for rule, curve in found["accuracy"].items()}
    assert at_3 == {
        "majority": 0.5,
        "pass": 1.0,
        "best_of_n": 1.0,
        "best_of_n_weighted": 1.0,
        "best_of_n/min": 0.5,
        "best_of_n_weighted/min": 0.5,
        "best_of_n/product": 0.5,
        "best_of_n_weighted/product": 0.5,
    }
    over = found["over_majority"]
    assert set(over) == set(at_3) - {"majority", "pass"}
    assert over["best_of_n"]["3"]["mean"] == 0.5
    assert over["best_of_n/min"]["3"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    # One candidate leaves nothing to choose: no rule differs, on any question.
    assert {tuple(curve["1"].values()) for curve in over.values()} == {(0.0, 0.0, 0.0)}
    assert sum("/" not in rule for rule in over) * len(AGGREGATIONS) == len(over)


def test_without_scores_majority_is_all():
    candidates = [dataclasses.replace(x, step_scores=()) for x in CLEAR.candidates]
    found = summarise_choosing([dataclasses.replace(CLEAR, candidates=tuple(candidates))], [2])
    assert set(found["accuracy"]) == {"majority", "pass"}
    assert found["over_majority"] == {}


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("best_of_n/min", "best-of-N by min"),
        ("majority", "majority"),
        ("beam_4", "beam 4"),
        ("my/search", "my/search"),
        ("my/search/last", "my/search by last"),
    ],
)
def test_names(rule, name):
    assert label(rule) == name
