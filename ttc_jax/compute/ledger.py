"""The ledger: what a search cost, in generations, tokens and FLOPs (paper sections 3.1 and 7)."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Exact integer costs that add up: `a + b`, or `sum(ledgers, Ledger())`.

    Any integer type is accepted and kept as a Python int, so that totals never overflow.

    Raises:
        TypeError: a value is not an integer.
        ValueError: a value is negative.
    """

    generations: int = 0  # full sampled answers: the paper's unit of budget
    prefill_tokens: int = 0  # prompt tokens the generator read
    decode_tokens: int = 0  # tokens the generator drew for steps, end tokens included
    lookahead_tokens: int = 0  # tokens it rolled out to score a step, and threw away
    verifier_tokens: int = 0  # tokens the verifier read
    generator_flops: int = 0
    verifier_flops: int = 0
    # The same, had every round started from the text alone, without the caches of the round before.
    uncached_generator_flops: int = 0
    uncached_verifier_flops: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = operator.index(getattr(self, field.name))
            if value < 0:
                raise ValueError(f"ledger: {field.name} is {value}; a cost is never negative")
            object.__setattr__(self, field.name, value)

    def __add__(self, other: "Ledger") -> "Ledger":
        if not isinstance(other, Ledger):
            return NotImplemented
        mine, theirs = self.to_dict(), other.to_dict()
        return Ledger(**{name: mine[name] + theirs[name] for name in mine})

    def to_dict(self) -> dict[str, int]:
        """The costs by name, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, costs: Mapping[str, Any]) -> "Ledger":
        """The ledger that `to_dict` wrote; a cost left out is zero.

        Raises:
            TypeError: an unknown cost, or a value that is not an integer.
        """
        return cls(**costs)
