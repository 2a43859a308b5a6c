"""Search strategies by name; each is one small pure function in a file of its own."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ttc_jax.errors import UserError
from ttc_jax.plugins import calling, imported, made
from ttc_jax.search.strategies.beam import Beam
from ttc_jax.search.strategies.best_of_n import BestOfN
from ttc_jax.search.strategies.deepconf import DeepConf
from ttc_jax.search.strategies.diverse_beam import DiverseBeam
from ttc_jax.search.strategies.dvts import DVTS
from ttc_jax.search.strategies.particles import ParticleFilter
from ttc_jax.search.strategies.rebase import Rebase
from ttc_jax.search.strategies.smc import SMC
from ttc_jax.search.strategies.strategy import Strategy
from ttc_jax.search.strategies.view import STOP, View

STRATEGIES: Final[Mapping[str, type[Strategy]]] = MappingProxyType(
    {
        "best_of_n": BestOfN,
        "beam": Beam,
        "dvts": DVTS,
        "particles": ParticleFilter,
        "rebase": Rebase,
        "smc": SMC,
        "diverse_beam": DiverseBeam,
        "deepconf": DeepConf,
    }
)

__all__ = ["STOP", "STRATEGIES", "Strategy", "View", "make_strategy", "name_of"]


def make_strategy(name: str, /, **options: Any) -> Strategy:
    """Returns the strategy of that name.

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
    strategy = made(kind, options, name, "search.options", "option")
    _check_types(strategy)
    with calling(f"search.strategy: {name}.__hash__"):
        hash(strategy)
    return strategy


def name_of(strategy: Strategy) -> str:
    """Returns the name by which `make_strategy` finds a strategy's class."""
    kind = type(strategy)
    names = [name for name, known in STRATEGIES.items() if known is kind]
    return names[0] if names else f"{kind.__module__}:{kind.__qualname__}"


def _check_types(strategy: Strategy) -> None:
    """Refuses options of another type than the strategy's field has: data may hold any."""
    with calling(f"search.strategy: {type(strategy).__name__}"):
        hints = typing.get_type_hints(type(strategy))
    for field in dataclasses.fields(strategy) if dataclasses.is_dataclass(strategy) else ():
        kind, value = hints.get(field.name), getattr(strategy, field.name, None)
        if kind not in (bool, int, float, str):
            continue
        fits = isinstance(value, int | float if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise UserError(
                f"search.options.{field.name}={value!r}: must be of type {kind.__name__}, as in "
                f"--config.search.options.{field.name}={kind()}"
            )


def _imported(name: str) -> type[Strategy]:
    found = imported(name, "search.strategy")
    if not issubclass(found, Strategy):
        raise UserError(f"search.strategy: {name!r} is no subclass of Strategy")
    if found.__hash__ is None:
        raise UserError(f"search.strategy: {name!r} must be a frozen dataclass")
    return found
