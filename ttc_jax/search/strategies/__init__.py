"""Search strategies by name; each is one small pure function in a file of its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ttc_jax.errors import UserError
from ttc_jax.plugins import imported
from ttc_jax.search.strategies.beam import Beam
from ttc_jax.search.strategies.best_of_n import BestOfN
from ttc_jax.search.strategies.dvts import DVTS
from ttc_jax.search.strategies.particles import ParticleFilter
from ttc_jax.search.strategies.rebase import Rebase
from ttc_jax.search.strategies.strategy import Strategy

STRATEGIES: Final[Mapping[str, type[Strategy]]] = MappingProxyType(
    {
        "best_of_n": BestOfN,
        "beam": Beam,
        "dvts": DVTS,
        "particles": ParticleFilter,
        "rebase": Rebase,
    }
)

__all__ = ["STRATEGIES", "Strategy", "make_strategy"]


def make_strategy(name: str, options: Mapping[str, Any]) -> Strategy:
    """The strategy of that name.

    Args:
      name: one of `STRATEGIES`, or "package.module:Class" for one of your own.
      options: its fields by name; those left out keep their defaults.

    Raises:
      UserError: no such strategy, or an option that it does not have.
    """
    kind = _imported(name) if ":" in name else STRATEGIES.get(name)
    if kind is None:
        known = ", ".join(STRATEGIES)
        raise UserError(
            f"search.strategy: {name!r} is unknown; choose {known}, or 'package.module:Class'"
        )
    fields = inspect.signature(kind).parameters
    for option in options:
        if option not in fields:
            raise UserError(
                f"search.options.{option}: {name} has no such option; "
                f"it has {', '.join(fields) or 'none'}"
            )
    return kind(**options)


def _imported(name: str) -> type[Strategy]:
    found = imported(name, "search.strategy")
    if not issubclass(found, Strategy):
        raise UserError(f"search.strategy: {name!r} is no subclass of Strategy")
    if found.__hash__ is None:
        raise UserError(f"search.strategy: {name!r} must be a frozen dataclass")
    return found
