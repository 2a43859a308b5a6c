"""A policy as data: the file that `ttc policy` writes, and the section `policy` of a config.

A section that names a file, `policy.path`, is filled with what the file says, so that every field
can be read and be set by a flag. A section may also be written by hand, without a path.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ml_collections import ConfigDict
from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, PositiveInt
from pydantic import ConfigDict as Rules

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.plugins import check_named_by_data, is_class
from ttc_jax.typed_json import read_json

FILE = "policy.json"
OF_FILE = ("path", "loaded")  # fields of a section that are none of the policy

_Name = Annotated[str, Field(pattern=r"^[^.=]+$")]  # part of a flag's name
_Bin = Annotated[str, Field(pattern=r"^bin_[1-9]\d{0,3}$")]
_Budget = Annotated[str, Field(pattern=r"^n_[1-9]\d{0,6}$")]


def _falling(edges: tuple[float, ...]) -> tuple[float, ...]:
    if list(edges) != sorted(edges, reverse=True):
        raise ValueError("must fall, as in 0.5,0.1")
    return edges


@dataclasses.dataclass(frozen=True)
class Entry:
    """A strategy as in `sweep.strategies`.

    Attributes:
      thinking: its own maximum of a thought's tokens; -1: that of the config's section `thinking`.
      judge: which chooses from what the search has found; "": none, and the candidates vote.
    """

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid")

    strategy: str
    options: dict[_Name, bool | int | float | str] = dataclasses.field(default_factory=dict)
    lookahead: NonNegativeInt = 0
    ratio: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    generator: str = ""
    verifier: str = ""
    thinking: Annotated[int, Field(ge=-1)] = -1
    judge: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the entry as a config holds it; without `thinking` or `judge` that it lacks.

        These fields came later, and workdirs of earlier versions go on without them.
        """
        found = dataclasses.asdict(self)
        unsaid = {"thinking": self.thinking < 0, "judge": not self.judge}
        return {name: x for name, x in found.items() if not unsaid.get(name)}


@dataclasses.dataclass(frozen=True)
class PolicyFile:
    """What a policy's file holds, and the section of a config.

    Attributes:
      difficulty: how the difficulty of a question is told: "question" by the verifier's score of
        it, "predicted" by its scores of samples; "oracle" by their correctness.
      edges, choice: see `Policy.to_dict`.
      strategies: name in `choice` -> how it is run.
      samples: that tell the difficulty; 0 for "question".
      unit: what budgets count.
      generations: where they count tokens, strategy -> budget -> generations that it is run with.
      budgets: those of every bin, as files of earlier versions say.
      about: the same in words.
    """

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid")

    difficulty: str
    edges: Annotated[tuple[FiniteFloat, ...], AfterValidator(_falling)]
    choice: dict[_Bin, dict[_Budget, str]]
    strategies: dict[_Name, Entry]
    samples: Annotated[NonNegativeInt, Field(le=10**6)] = 0
    unit: Literal["generations", "tokens"] = "generations"
    generations: dict[_Name, dict[_Budget, PositiveInt]] = dataclasses.field(default_factory=dict)
    budgets: Annotated[tuple[int, ...], Field(min_length=1)] = ()
    about: str = ""

    def __post_init__(self) -> None:
        for name, row in self.choice.items():
            if self.budgets and sorted(row) != sorted(f"n_{n}" for n in self.budgets):
                raise ValueError(f"choice.{name} has other budgets than budgets says; delete that")
            if self.unit == "tokens":
                for n, strategy in row.items():
                    if n not in self.generations.get(strategy, {}):
                        raise ValueError(f"generations.{strategy} lacks {n}, of choice.{name}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the policy as JSON holds it; without what only budgets of tokens need."""
        found = dataclasses.asdict(self)
        found["strategies"] = {name: x.to_dict() for name, x in self.strategies.items()}
        unsaid = {"budgets"} if self.unit == "tokens" else {"budgets", "unit", "generations"}
        return {name: value for name, value in found.items() if name not in unsaid}

    def write(self, path: Path) -> None:
        """Writes the file that `read_policy` reads.

        Raises:
          UserError: the disk is full or not writable.
        """
        files.write(path, json.dumps(self.to_dict(), indent=2) + "\n")


def read_policy(path: str, own: str = "") -> PolicyFile:
    """Returns the policy in a file, or in the workdir of `ttc policy`.

    Args:
      own: strategies and verifiers "package.module:Class" that the file may name, see
        `check_named_by_data`.

    Raises:
      UserError: no such file, one of another shape, or a class of one's own that `own` does not
        name.
    """
    where, file = f"policy.path={path}", _file(path)
    if not file.is_file():
        raise UserError(f"{where}: no such file; ttc policy writes one, WORKDIR/{FILE}")
    if file.suffix == ".py":
        raise UserError(f"{where}: policies are JSON now; write it anew with ttc policy")
    found = read_json(file, PolicyFile)
    for name, entry in found.strategies.items():
        check_named_by_data(entry.strategy, own, f"{where}: strategies.{name}")
        if is_class(entry.verifier):
            check_named_by_data(entry.verifier, own, f"{where}: strategies.{name}")
    return found


def exists(config: ConfigDict) -> bool:
    """Returns whether the file that a config's section names is there."""
    return _file(config.policy.path).is_file()


def filled(config: ConfigDict) -> ConfigDict:
    """Returns a config whose section `policy` holds what the file that it names says.

    `policy.loaded` then says which file that was: fields that are set later stay, unless another
    path is. A config without such a section, or with one that is written by hand, is as it was.

    Raises:
      UserError: as `read_policy`, or a section that is written by hand and names a file as well.
    """
    section = config.get("policy", {})
    path, loaded = (section.get(name, "") for name in OF_FILE)
    if path == loaded:
        return config
    if path and not loaded and "choice" in section:
        raise UserError(
            f"policy.path={path}: policy.choice is written in the config as well; leave one out"
        )
    found: dict[str, Any] = {"path": path}
    if path:
        policy = read_policy(path, config.get("own", "")).to_dict()
        found |= {"loaded": path} | {name: x for name, x in policy.items() if name != "about"}
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        copy.policy = found
    return copy


def _file(path: str) -> Path:
    file = Path(path)
    return file / FILE if file.is_dir() else file
