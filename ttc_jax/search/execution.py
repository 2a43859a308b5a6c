"""The execution: how questions are put together on the devices, which changes no answer."""

from __future__ import annotations

import dataclasses

from jax.sharding import Mesh

from ttc_jax.errors import UserError
from ttc_jax.sampling.programs import shards

CACHES = ("", "shared", "auto")


@dataclasses.dataclass(frozen=True)
class Execution:
    """How many questions are searched together, and where.

    Attributes:
      batch: B, questions searched together, over all shards of the mesh's `data`. Slots without a
        question are computed too.
      lanes: W, rows decoded in an iteration, active ones first; 0: all B·N, paused ones included.
      refill: whether a finished question's slot goes to the next one at once; else all B start and
        end together. It changes no result.
      segment: decode iterations at least between two refills, for which shards of `data` wait for
        each other.
      cache: how KV caches hold what rows have written, one of `CACHES`. "": each row all of its
        own; "shared": what rows have from one parent once, see `SharedCache`; "auto": this where it
        is worth it, see `histories_of`.
      mesh: from `sharding.mesh.make_mesh`: questions are split over `data`, of which every shard is
        a search of its own, weights and caches over `model`; None: the models' own device. Where
        `model` is 1, results are the same bits as with B / data questions on one device.
    """

    batch: int = 1
    lanes: int = 0
    refill: bool = True
    segment: int = 1
    mesh: Mesh | None = None
    cache: str = ""

    @property
    def shards(self) -> int:
        """Returns the parts that questions are split into."""
        return shards(self.mesh)

    def check(self) -> None:
        """Refuses numbers out of range, and slots or lanes that the mesh's `data` does not divide.

        Raises:
          UserError: names the field.
        """
        for name, value in (("batch", self.batch), ("segment", self.segment)):
            if value < 1:
                raise UserError(f"execution.{name} is {value}; it must be at least 1")
        if self.cache not in CACHES:
            raise UserError(
                f"execution.cache is {self.cache!r}; it must be shared, auto, or empty: every row "
                "keeps all of its own"
            )
        if self.lanes < 0:
            raise UserError(f"execution.lanes is {self.lanes}; it must be 0 (all rows) or more")
        for name, value in (("batch", self.batch), ("execution.lanes", self.lanes)):
            if value % self.shards:
                raise UserError(
                    f"{name} is {value}; execution.mesh.data={self.shards} must divide it"
                )
