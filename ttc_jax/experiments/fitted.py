"""A fitted policy as a file: what `ttc policy` writes, and what it takes to follow it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ml_collections import ConfigDict
from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, PositiveInt
from pydantic import ConfigDict as Rules

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.plugins import check_named_by_data
from ttc_jax.policy.policy import Policy
from ttc_jax.typed_json import read_json

FILE = "policy.json"
_USABLE = ("question", "predicted")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A strategy as in `sweep.strategies`."""

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid")

    strategy: str
    options: dict[str, bool | int | float | str] = dataclasses.field(default_factory=dict)
    lookahead: NonNegativeInt = 0
    ratio: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    generator: str = ""
    verifier: str = ""


def _rising(budgets: tuple[int, ...]) -> tuple[int, ...]:
    if list(budgets) != sorted(set(budgets)):
        raise ValueError("must rise, none named twice")
    return budgets


@dataclasses.dataclass(frozen=True)
class PolicyFile:
    """What a policy's file holds.

    Attributes:
      difficulty: how the difficulty of a question is told: "question" by the verifier's score of
        it, "predicted" by its scores of samples; "oracle" by their correctness.
      samples: how many; 0 for "question".
      budgets, edges, choice: see `Policy.to_dict`.
      strategies: name in `choice` -> how it is run.
      about: the same in words.
    """

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid")

    difficulty: str
    samples: Annotated[NonNegativeInt, Field(le=10**6)]
    budgets: Annotated[
        tuple[Annotated[PositiveInt, Field(le=10**6)], ...],
        Field(min_length=1),
        AfterValidator(_rising),
    ]
    edges: tuple[FiniteFloat, ...]
    choice: dict[str, dict[str, str]]
    strategies: dict[str, Entry]
    about: str = ""

    def write(self, path: Path) -> None:
        """Writes the file that `load_policy` reads.

        Raises:
          UserError: the disk is full or not writable.
        """
        files.write(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


@dataclasses.dataclass(frozen=True)
class Fitted:
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


def load_policy(path: str, own: str = "") -> Fitted:
    """The policy in a file, or in the workdir of `ttc policy`.

    Args:
      own: strategies "package.module:Class" that the file may name, see `check_named_by_data`.

    Raises:
      UserError: no such file, one of another shape, a table with holes, a policy that needs to know
        the right answers, or a strategy of one's own that `own` does not name.
    """
    where = f"policy.path={path}"
    file = Path(path)
    if file.is_dir():
        file = file / FILE
    if not file.is_file():
        raise UserError(f"{where}: no such file; ttc policy writes one, WORKDIR/{FILE}")
    if file.suffix == ".py":
        raise UserError(f"{where}: policies are JSON now; write it anew with ttc policy")
    found = read_json(file, PolicyFile)
    if found.difficulty not in _USABLE or (found.difficulty == "predicted" and found.samples < 1):
        raise UserError(
            f"{where}: {found.difficulty} difficulty cannot be told of a new question; write the "
            "policy anew with --config.policy.difficulty=question or predicted"
        )
    try:
        policy = Policy.from_dict(vars(found))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    strategies: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in policy.choice for name in row):
        if name not in found.strategies:
            raise UserError(
                f"{where}: strategies does not say what {name} is; fit the policy to what "
                "ttc sweep wrote, or add it"
            )
        entry = found.strategies[name]
        check_named_by_data(entry.strategy, own, f"{where}: strategies.{name}")
        strategies[name] = dataclasses.asdict(entry)
    return Fitted(policy, found.difficulty, found.samples, ConfigDict(strategies))
