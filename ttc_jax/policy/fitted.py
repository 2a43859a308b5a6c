"""A fitted policy, as `ttc policy` writes it, with what it takes to follow it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.policy.policy import Policy

_FIELDS = ("difficulty", "samples", "budgets", "edges", "choice", "strategies")
_USABLE = ("question", "predicted")


class Fitted(NamedTuple):
    """What to do with a question once its difficulty is known, and how that is told.

    Attributes:
      policy: the table of strategies.
      difficulty: "question" where the verifier's score of the question tells it, "predicted" where
        its scores of samples do.
      samples: how many; 0 for "question".
      strategies: name -> entry as in `sweep.strategies`.
    """

    policy: Policy
    difficulty: str
    samples: int
    strategies: ConfigDict


def load_policy(path: str) -> Fitted:
    """The policy in a file, or in the workdir of `ttc policy`.

    Raises:
      UserError: no such file, a table with holes, or one that needs to know the right answers.
    """
    where = f"policy.path={path}"
    if Path(path).is_dir():
        path = str(Path(path) / "policy.py")
    if not Path(path).is_file():
        raise UserError(f"{where}: no such file; ttc policy writes one, WORKDIR/policy.py")
    found = load_config(path).get("policy", {})
    if missing := [name for name in _FIELDS if name not in found]:
        raise UserError(f"{where}: lacks policy.{missing[0]}; write it anew with ttc policy")
    if found.difficulty not in _USABLE or (found.difficulty == "predicted" and found.samples < 1):
        raise UserError(
            f"{where}: {found.difficulty} difficulty cannot be told of a new question; write the "
            "policy anew with --config.policy.difficulty=question or predicted"
        )
    policy = Policy.from_dict(found.to_dict())
    for name in {name for row in policy.choice for name in row}:
        if name not in found.strategies:
            raise UserError(
                f"{where}: policy.strategies does not say what {name} is; fit the policy to what "
                "ttc sweep wrote, or add it"
            )
    return Fitted(policy, found.difficulty, found.samples, found.strategies)
