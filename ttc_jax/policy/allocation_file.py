"""An allocation as a file: what `ttc policy` writes, and what `ttc serve` follows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict as Rules
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveInt

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.policy.allocation import Allocation, fit_allocation
from ttc_jax.policy.walks import Walks
from ttc_jax.typed_json import read_json

FILE = "allocation.json"

_Budget = Annotated[str, Field(pattern=r"^n_[1-9]\d{0,6}$")]
_Bounds = tuple[FiniteFloat, ...]


@dataclasses.dataclass(frozen=True)
class Price:
    """The price that an average budget sets; see `Allocation`."""

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid")

    price: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]
    stop_at_price: Annotated[float, Field(ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class AllocationFile:
    """The content of an allocation's file.

    Attributes:
      aggregation: step scores to answer score, see `answer_score`.
      grid, edges, gains: see `Allocation`.
      prices: average budget, in generations a question -> its price.
      about: the same in words.
    """

    __pydantic_config__: ClassVar[Rules] = Rules(extra="forbid")

    aggregation: Literal["last", "min", "product"]
    grid: Annotated[tuple[PositiveInt, ...], Field(min_length=2)]
    edges: tuple[tuple[_Bounds, _Bounds], ...]
    gains: tuple[_Bounds, ...]
    prices: Annotated[dict[_Budget, Price], Field(min_length=1)]
    about: str = ""

    def __post_init__(self) -> None:
        if any(b <= a for a, b in pairwise(self.grid)):
            raise ValueError("grid must rise")
        cells = [(len(share) + 1) * (len(score) + 1) for share, score in self.edges]
        if len(cells) != len(self.grid) - 1 or list(map(len, self.gains)) != cells:
            raise ValueError("edges and gains must have a row for each number in grid but the last")
        if any(b < a for both in self.edges for row in both for a, b in pairwise(row)):
            raise ValueError("edges must rise")

    @property
    def budgets(self) -> tuple[int, ...]:
        """Generations a question that can be spent on average, ascending."""
        return tuple(sorted(int(name.removeprefix("n_")) for name in self.prices))

    def at(self, budget: int) -> Allocation:
        """Returns the allocation of an average budget, one of `budgets`."""
        found = self.prices[f"n_{budget}"]
        return Allocation(self.grid, self.edges, self.gains, found.price, found.stop_at_price)

    def write(self, path: Path) -> None:
        """Writes the file that `read_allocation` reads.

        Raises:
          UserError: the disk is full or not writable.
        """
        files.write(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def allocation_file(
    walks: Walks, budgets: Sequence[int], *, aggregation: str, source: str
) -> AllocationFile:
    """Returns the allocation that is fitted to all questions.

    Args:
      budgets: generations a question on average.
      aggregation: that the walks were made with.
      source: where their samples are from, in words.

    Raises:
      UserError: as `fit_allocation`.
    """
    fitted = {budget: fit_allocation(walks, budget) for budget in budgets}
    table = fitted[budgets[0]]  # the price alone differs
    return AllocationFile(
        aggregation=aggregation,  # pyright: ignore[reportArgumentType]
        grid=table.grid,
        edges=table.edges,  # pyright: ignore[reportArgumentType]
        gains=table.gains,
        prices={f"n_{n}": Price(one.price, one.stop_at_price) for n, one in fitted.items()},
        about=f"Fitted to {source}. After grid[i] samples a question is in the cell that edges[i] "
        "set: of the share of the winning answer, and of its mean score. It goes on while "
        "gains[i] of its cell exceeds the price of the budget that is to hold on average.",
    )


def read_allocation(path: str) -> AllocationFile:
    """Returns the allocation in a file, or in the workdir of `ttc policy`.

    Raises:
      UserError: no such file, or one of another shape.
    """
    file = Path(path)
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"allocation.path={path}: no such file; ttc policy writes WORKDIR/{FILE}")
    return read_json(file, AllocationFile)
