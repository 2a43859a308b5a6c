"""Chips and slices that programs can be compiled for without having one.

libtpu holds the whole compiler: a topology is described, not attached.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
from collections.abc import Iterator
from typing import Any

from jax.experimental import topologies

from ttc_jax.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a chip can do at best, or a JAX device's part of it."""

    name: str
    hbm_bytes: int  # that programs may use; libtpu keeps the rest of 32, 16, 95 and 32 GiB
    flops: float  # of bfloat16 products, a second
    bandwidth: float  # of HBM, bytes a second
    links: float  # to other chips, all links together, bytes a second

    def part(self, devices: int) -> Chip:
        """A device's part of a chip that has so many."""
        return Chip(
            self.name,
            self.hbm_bytes // devices,
            self.flops / devices,
            self.bandwidth / devices,
            self.links / devices,
        )


# https://cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e: "key chip specifications".
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("v4", int(30.5 * GIB), 275e12, 1228e9, 300e9),
        Chip("v5e", int(15.75 * GIB), 197e12, 819e9, 200e9),
        Chip("v5p", int(95.73 * GIB), 459e12, 2765e9, 600e9),
        Chip("v6e", int(31.24 * GIB), 918e12, 1640e9, 448e9),
    )
}
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
TOPOLOGIES = tuple(
    f"{name}:{shape}" for name in CHIPS for shape in (_CUBES if name in ("v4", "v5p") else _FLAT)
)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Some chips that hang together.

    Attributes:
      chip: of a JAX device, as `Chip.part`.
      devices: for `jax.sharding.Mesh`; they compile programs and can do nothing else.
    """

    name: str
    chip: Chip
    devices: tuple[Any, ...]

    @property
    def chips(self) -> int:
        """How many there are."""
        return _chips(self.name)

    def like(self, devices: int) -> list[str]:
        """Those of this chip that have so many devices."""
        kind = self.name.split(":")[0]
        each = len(self.devices) // self.chips
        alike = (name for name in TOPOLOGIES if name.split(":")[0] == kind)
        return [name for name in alike if _chips(name) * each == devices]


def describe(name: str) -> Topology:
    """The topology called "v5e:4x4" and the like.

    Raises:
      UserError: no such topology, or no libtpu.
    """
    if name not in TOPOLOGIES:
        raise UserError(f"--topology={name}: must be one of {', '.join(TOPOLOGIES)}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu, the TPU compiler, is not installed: pip install 'ttc_jax[tpu]'")
    # There is no machine to ask, and so no metadata server to wait for.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    with _quiet():
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    chip = CHIPS[name.split(":")[0]].part(len(devices) // _chips(name))
    return Topology(name, chip, tuple(devices))


def _chips(name: str) -> int:
    return math.prod(map(int, name.split(":")[1].split("x")))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what libtpu says of the TPU that it does not find off stderr, which it writes to."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
