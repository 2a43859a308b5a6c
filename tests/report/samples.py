"""Small summaries of every job, and records with trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ttc_jax.compute.ledger import Ledger
from ttc_jax.results.store import Candidate, Node, Record, ResultsStore
from ttc_jax.results.summary import write_summary

HOSTILE = '</script><img src=x onerror="document.title=1">\u2028<!--<script>'
BUDGETS = ("4", "16")
_seen = iter(range(1, 10_000))


def point() -> dict[str, float]:
    """An estimate that no other has."""
    mean = 0.3 + next(_seen) / 1000
    return {"mean": mean, "low": mean - 0.0512, "high": mean + 0.0613}


def ratio(censored: bool = False) -> dict[str, Any]:
    found = point()
    return {"ratio": 3 * found.pop("mean"), **found, "censored": censored}


def curves(*names: str) -> dict[str, Any]:
    return {name: {n: point() for n in BUDGETS} for name in names}


def bins(*names: str) -> list[dict[str, Any]]:
    return [
        {"questions": 10, "pass_at_1": easiness, "accuracy": curves(*names)}
        for easiness in (0.9, 0.5, 0.1)
    ]


def summaries() -> dict[str, dict[str, Any]]:
    """What each job's summary.json holds, with the fields that a report reads."""
    common = {"questions": 30, "seeds": [0], "versions": {"python": "3.11.2", "jax": "0.10.2"}}
    kinds = ("predicted", "oracle", "bayesian")
    names = {"sequential_1_to_1": 1.0, "sequential_4_to_1": 4.0}
    sides = ("small", "large", "difference", "relative")

    def match(affordable: bool) -> dict[str, Any]:
        parts = [{side: point() for side in sides} for _ in range(4)]
        parts[3]["relative"] = None  # type: ignore[assignment]
        found = {"generations": 15.8, "affordable": affordable, "beyond": False}
        return {**found, "all": parts[0], "by_bin": parts[1:]}

    def allocation() -> dict[str, Any]:
        names = ("accuracy", "uniform", "gain", "informed")
        spent = {"mean": 6.5, "low": 6.1, "high": 7.2}
        stopped = {"1": 0.25, "4": 0.75}
        return {**{name: point() for name in names}, "spent": spent, "stopped": stopped}

    ledger = dict.fromkeys(Ledger().to_dict(), 17.5)
    return {
        "search": {
            "accuracy": curves("best_of_n", "beam_4"),
            "bins": bins("best_of_n", "beam_4"),
            "choosing": {
                "accuracy": curves("majority", "best_of_n", "best_of_n/min", "pass"),
                "over_majority": curves("best_of_n", "best_of_n/min"),
            },
            "ledger": {name: dict.fromkeys(BUDGETS, ledger) for name in ("best_of_n", "beam_4")},
            "config": {
                "task": {"name": "countdown", "size": 3},
                "split": "test",
                "selection": {"rule": "best_of_n_weighted", "aggregation": "last"},
                "prompt": {"template": HOSTILE},
            },
            **common,
        },
        "policy": {
            "accuracy": curves("best_of_n", *(f"compute_optimal_{kind}" for kind in kinds)),
            "compute_optimal": {
                kind: {
                    "accuracy": {n: point() for n in BUDGETS},
                    "by_bin": [{n: point() for n in BUDGETS} for _ in range(3)],
                    "gain": {n: point() for n in BUDGETS},
                    "single": {n: point() for n in BUDGETS},
                    "over_single": {n: point() for n in BUDGETS},
                    "tied": 0.3,
                    "choice": {
                        f"bin_{i}": {f"n_{n}": "beam_4" for n in BUDGETS} for i in (1, 2, 3)
                    },
                }
                for kind in kinds
            },
            "efficiency": {kind: {n: ratio(n == "16") for n in BUDGETS} for kind in kinds},
            "efficiency_net": {kind: {n: ratio() for n in BUDGETS} for kind in kinds},
            "allocation": {n: allocation() for n in BUDGETS},
            "flops_match": {
                kind: {
                    R: {"generator": match(True), "verifier": match(False)} for R in ("0.16", "22")
                }
                for kind in ("oracle", "predicted")
            },
            "config": {"policy": {"bins": 3, "difficulty": "predicted"}},
            **common,
        },
        "chains": {
            "chains": {
                "pass_at_1_by_position": [point() for _ in range(5)],
                "flips": {"right_to_wrong": point(), "wrong_to_right": None},
            },
            "ledger_per_question": ledger,
            "ledger": ledger,
            "config": {},
            **common,
        },
        "ratios": {
            "accuracy": curves("best_of_n", *names),
            "bins": bins("best_of_n", *names),
            "config": {
                "sweep": {
                    "strategies": {
                        "best_of_n": {"ratio": 0.0},
                        **{name: {"ratio": value} for name, value in names.items()},
                    }
                }
            },
            **common,
        },
        "verifiers": {"accuracy": curves("best_of_n", "orm"), "config": {}, **common},
    }


def candidate(text: str, score: float, answer: str | None, correct: bool = False) -> Candidate:
    return Candidate((5, 1), text, True, -1.0, (score,), answer, correct)


def record(
    question: str, strategy: str, candidates: tuple[Candidate, ...], tree: tuple[Node, ...], **about
) -> Record:
    n = len(candidates)
    return Record(question, strategy, n, 0, candidates, Ledger(generations=n), tree=tree, **about)


def records() -> list[Record]:
    """A beam of two candidates with a step that was pruned, and two chains of two answers."""
    beam = (
        Node(-1, 0, "one\n", 0.75, None),
        Node(-1, 0, f"pruned {HOSTILE}\n", 0.25, None),
        Node(0, 1, "\\boxed{1}", 0.875, 0),
        Node(0, 1, HOSTILE, 0.125, 1),
    )
    chains = tuple(Node(-1, i % 2, f"answer {i}", None, i) for i in (0, 2, 1, 3))
    ends = (candidate("one\n\\boxed{1}", 0.875, "1", True), candidate(HOSTILE, 0.125, HOSTILE))
    four = tuple(candidate(f"answer {i}", 0.1 * (i + 1), str(i % 2)) for i in range(4))
    return [
        record("countdown/test/0/0", "beam_4", ends, beam),
        record("countdown/test/0/0", "chains", four, chains, sequential=2),
        record("countdown/test/0/1", "beam_4", ends, beam),
        record("countdown/test/0/2", "beam_4", ends, ()),
    ]


def write(folder: Path, *names: str) -> dict[str, str]:
    """Workdirs of the jobs, by name: what `config.data` says."""
    for name, summary in summaries().items():
        if name in names:
            write_summary(folder / name, summary)
    if "search" in names:
        ResultsStore(folder / "search").append(records())
    return {name: str(folder / name) if name in names else "" for name in summaries()}
