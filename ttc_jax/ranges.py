"""What values the fields of configs may take: one table, checked before a job does anything.

Every number and every choice of a shipped config has a line here. What one library alone can tell,
such as whether a width divides N, is checked where it is known.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import shlex
from collections.abc import Mapping
from typing import Any, Final

from ml_collections import ConfigDict

from ttc_jax.config import as_flag, fields
from ttc_jax.errors import UserError
from ttc_jax.policy.flops_match import PER_TOKEN
from ttc_jax.search.aggregate import AGGREGATIONS, RULES

_MANY = 2**31 - 1  # what XLA counts with


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = _MANY

    def fault(self, value: Any) -> str:
        """What is wrong with a value; "" for nothing."""
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        if value < self.least:
            return f"must be at least {self.least}"
        return f"must be at most {self.most}" if value > self.most else ""


@dataclasses.dataclass(frozen=True)
class Real:
    """A finite number from `least` to `most`."""

    least: float = 0.0
    most: float = math.inf
    above: bool = False  # least itself is out
    below: bool = False  # most itself is out

    def fault(self, value: Any) -> str:
        """What is wrong with a value; "" for nothing."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if not math.isfinite(value):
            return "must be a finite number"
        if value < self.least or (self.above and value == self.least):
            return f"must be {'above' if self.above else 'at least'} {self.least:g}"
        if value > self.most or (self.below and value == self.most):
            return f"must be {'below' if self.below else 'at most'} {self.most:g}"
        return ""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def fault(self, value: Any) -> str:
        """What is wrong with a value; "" for nothing."""
        if value in self.words:
            return ""
        return f"must be one of {', '.join(shlex.quote(word) for word in self.words)}"


@dataclasses.dataclass(frozen=True)
class Each:
    """Several values of one kind, `least` of them at least, none twice."""

    element: Whole | Real | Choice
    least: int = 1
    falls: bool = False  # each below the one before it

    def fault(self, value: Any) -> str:
        """What is wrong with a value; "" for nothing."""
        if not isinstance(value, tuple | list):
            return "must be several values"
        if len(value) < self.least:
            return f"must be at least {self.least} value{'s' if self.least > 1 else ''}"
        if fault := next(filter(None, map(self.element.fault, value)), ""):
            return f"each {fault}"
        if self.falls and list(value) != sorted(value, reverse=True):
            return "bounds must fall, as in 0.5,0.1"
        if len(set(value)) < len(value):
            return "must not name a value twice"
        return ""


SEED: Final = Whole(0, 2**32 - 1)
_SHARE = Real(0, 1, above=True, below=True)
_COUNT = Whole(1)
_DTYPES = Choice(("float32", "bfloat16"))

RANGES: Final[Mapping[str, Whole | Real | Choice | Each]] = {
    "seed": SEED,
    "task.seed": SEED,
    "task.size": Whole(1, 100_000_000),
    "limit": Whole(),
    "budget": _COUNT,
    "budgets": Each(_COUNT),
    "generator.dtype": _DTYPES,
    "verifier.dtype": _DTYPES,
    "start.dtype": _DTYPES,
    "train.compute_dtype": _DTYPES,
    "generator.weights": Choice(("", "int8")),
    "generator.cache": Choice(("", "int8")),
    "verifier.weights": Choice(("", "int8")),
    "verifier.cache": Choice(("", "int8")),
    "mesh.data": _COUNT,
    "mesh.model": _COUNT,
    "sampling.n": _COUNT,
    "sampling.rows": _COUNT,
    "sampling.questions_per_batch": _COUNT,
    "sampling.max_new_tokens": _COUNT,
    "sampling.temperature": Real(),
    "sampling.top_k": Whole(),
    "sampling.top_p": Real(0, 1, above=True),
    "search.lanes": Whole(),
    "search.lookahead": Whole(),
    "search.max_step_tokens": _COUNT,
    "search.ratio": Real(),
    "search.revisions": _COUNT,
    "search.rounds": _COUNT,
    "search.segment": _COUNT,
    "search.trees": Whole(),
    "selection.aggregation": Choice(tuple(AGGREGATIONS)),
    "selection.rule": Choice(tuple(RULES)),
    "selection.subsets": _COUNT,
    "sweep.budgets": Each(_COUNT),
    "sweep.rows": _COUNT,
    "sweep.seeds": Each(SEED),
    "sweep.difficulty.samples": Whole(),
    "sweep.difficulty.seed": SEED,
    "sweep.strategies.*.lookahead": Whole(),
    "sweep.strategies.*.ratio": Real(),
    "rollouts.ends": _COUNT,
    "rollouts.questions_per_batch": _COUNT,
    "rollouts.rows": _COUNT,
    "kind": Choice(("sft", "prm", "orm", "probe", "outcome_probe", "revision", "rest_em")),
    "policy.bins": _COUNT,
    "policy.budgets": Each(_COUNT),
    "policy.difficulty": Choice(("oracle", "predicted", "few", "question")),
    "policy.edges": Each(Real(0, 1), least=0, falls=True),
    "policy.resamples": Whole(10),
    "policy.samples": _COUNT,
    "flops_match.formula": Choice(tuple(PER_TOKEN)),
    "flops_match.ratios": Each(Real(above=True)),
    "flops_match.scale": Real(1),
    "data.held_out": _SHARE,
    "data.per_length": _COUNT,
    "data.per_question": _COUNT,
    "model.depth": Whole(),  # 0: a verifier without layers of its own
    "model.width": _COUNT,
    "model.heads": _COUNT,
    "model.kv_heads": _COUNT,
    "model.head_size": _COUNT,
    "model.ffn_width": _COUNT,
    "model.context": _COUNT,
    "megabytes": Real(above=True),
    "train.accumulate": _COUNT,
    "train.batch_tokens": _COUNT,
    "train.dropout": Real(0, 1, below=True),
    "train.evaluate_every": _COUNT,
    "train.learning_rate": Real(above=True),
    "train.lengths": Each(_COUNT),
    "train.past_best": Whole(),
    "train.patience": Whole(),
    "train.steps": _COUNT,
}


def check_ranges(config: ConfigDict) -> None:
    """Checks every field of a config that the table knows; the sections of stages too.

    Raises:
        UserError: a value out of range; one line with the flag that mends it.
    """
    for name, value in fields(config).items():
        inner = name.split(".", 2)[2] if name.startswith("stage.") else name
        found = range_of(inner)
        if found is not None and (fault := found.fault(value)):
            raise UserError(f"{as_flag(name, value)}: {fault}")


def range_of(name: str) -> Whole | Real | Choice | Each | None:
    """What the field of a dotted name may hold; None for text, paths and switches."""
    if name in RANGES:
        return RANGES[name]
    return next((r for pattern, r in RANGES.items() if fnmatch.fnmatchcase(name, pattern)), None)
