"""A program as the compiler of a chip makes it: what it holds, moves and computes, and how fast.

`Program.of` compiles, which takes seconds to a minute; nothing runs, and no such chip is needed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ttc_jax.errors import UserError
from ttc_jax.models.attention import HISTORY
from ttc_jax.models.cache import BLOCK, KVCache
from ttc_jax.tpu.hlo import Cost, Hlo
from ttc_jax.tpu.topology import GIB, Chip

_TOO_MUCH = re.compile(r"required for HLO temporaries \(([\d.]+)([KMG])\)|RESOURCE_EXHAUSTED")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Program:
    """What is known of a compiled program, on each device.

    Attributes:
      name: such as "segment".
      measured: what FLOPs, bytes and collectives are of: a whole call, or a turn of its main loop.
      chip: what it was compiled for.
      weight_bytes, cache_bytes: of its arguments: parameters; keys and values of `KVCache`s.
      argument_bytes, alias_bytes, temp_bytes, code_bytes: as the compiler gives them; aliased are
        results that take the place of donated arguments.
      ideal_bytes: what must be read and written at least: see `Program.of`.
      all_collectives: the same of the whole program, loops of unknown length counted as one turn.
      host_transfers: names of instructions that exchange something with the host; there should be
        none.
      compile_seconds: on this machine.
    """

    name: str
    measured: str
    chip: Chip
    weight_bytes: int
    cache_bytes: int
    argument_bytes: int
    alias_bytes: int
    temp_bytes: int
    code_bytes: int
    output_bytes: int
    flops: float
    bytes_accessed: float
    ideal_bytes: float
    collectives: tuple[Mapping[str, Any], ...]
    all_collectives: tuple[Mapping[str, Any], ...]
    host_transfers: tuple[str, ...]
    compile_seconds: float

    @classmethod
    def of(
        cls,
        name: str,
        lowered: jax.stages.Lowered,
        chip: Chip,
        *,
        weights: Any,
        state: Any = (),
        loop: str = "",
        ideal: float | None = None,
        keep: Callable[[str], object] | None = None,
    ) -> Program:
        """Compiles a program.

        Args:
          weights: the parameters among its arguments, as shapes with shardings.
          state: the same of what holds caches.
          loop: name of the scope in its main loop, where a turn of that is to be measured: with
            full caches, since loops over their blocks then run to the end.
          ideal: bytes that must be moved; by default all arguments and results.
          keep: is given the program's text.

        Raises:
          UserError: it does not fit the chip's HBM.
        """
        began = time.perf_counter()
        compiled = _compiled(name, lowered, chip, weights, state)
        seconds = time.perf_counter() - began
        memory: Any = compiled.memory_analysis()
        text = compiled.as_text() or ""
        if keep is not None:
            keep(text)
        program = Hlo(text)
        cost = program.cost(
            program.loop(loop) if loop else None,
            _blocks(state) - 1,
            {HISTORY: _blocks(state, HISTORY)},
        )
        moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
        return cls(
            name=name,
            measured="a token of all rows, caches full" if loop else "a call",
            chip=chip,
            weight_bytes=device_bytes(weights),
            cache_bytes=cache_bytes(state),
            argument_bytes=memory.argument_size_in_bytes,
            alias_bytes=memory.alias_size_in_bytes,
            temp_bytes=memory.temp_size_in_bytes,
            code_bytes=memory.generated_code_size_in_bytes,
            output_bytes=memory.output_size_in_bytes,
            flops=cost.flops,
            bytes_accessed=cost.bytes,
            ideal_bytes=moved if ideal is None else ideal,
            collectives=_collectives(cost),
            all_collectives=_collectives(program.cost()),
            host_transfers=tuple(program.host_transfers()),
            compile_seconds=seconds,
        )

    @property
    def total_bytes(self) -> int:
        """Of HBM while it runs."""
        results = self.output_bytes - self.alias_bytes
        return self.argument_bytes + results + self.temp_bytes + self.code_bytes

    @property
    def left_bytes(self) -> int:
        """Of the HBM that programs may use."""
        return self.chip.hbm_bytes - self.total_bytes

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds that what is measured takes at the chip's peaks, by what it waits for."""
        exchanged = sum(x["bytes"] for x in self.collectives)
        return {
            "compute": self.flops / self.chip.flops,
            "memory": self.bytes_accessed / self.chip.bandwidth,
            "links": exchanged / self.chip.links,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        bounds = self.bounds
        fields = {name: x for name, x in vars(self).items() if name != "chip"}
        return fields | {
            "left_bytes": self.left_bytes,
            "roofline_seconds": max(bounds.values()),
            "bound": max(bounds, key=lambda name: bounds[name]),
            "chip": self.chip.name,
            "hbm_bytes": self.chip.hbm_bytes,
        }


def capacity(program: Program, questions: int, candidates: int, state: Any) -> dict[str, int]:
    """How far B, or N, of a device can grow until its HBM is full.

    What grows is taken to be the caches and all temporary memory, in proportion; of the caches, the
    prompts do not grow with N. That errs on the safe side where some of the temporary memory is
    there for the weights.

    Args:
      questions: B, of a device.
      candidates: N.
      state: that of the program.
    """
    suffixes = cache_bytes(state, suffixes_only=True)
    fixed = program.total_bytes - program.cache_bytes - program.temp_bytes
    room = program.chip.hbm_bytes - fixed
    a_question = (program.cache_bytes + program.temp_bytes) / questions
    a_candidate = (suffixes + program.temp_bytes) / candidates
    prompts = program.cache_bytes - suffixes
    return {
        "questions": int(room / a_question),
        "candidates": int((room - prompts) / a_candidate),
    }


def device_bytes(tree: Any) -> int:
    """Bytes of arrays, or shapes with shardings, on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape) if x.sharding else x.shape) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def cache_bytes(state: Any, *, suffixes_only: bool = False) -> int:
    """Bytes of the keys and values in `KVCache`s, on one device."""
    least = 5 if suffixes_only else 4  # axes: prompts have no N
    return sum(
        device_bytes(x)
        for cache in _caches(state)
        for x in jax.tree.leaves(cache)
        if x.ndim >= least
    )


def _caches(state: Any) -> list[KVCache]:
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, KVCache))
    return [x for x in leaves if isinstance(x, KVCache)]


def _blocks(state: Any, part: str = "suffix") -> int:
    """Blocks of the longest suffix, or history, that attention reads."""
    slots = (getattr(x, part)[0].values.shape[3] for x in _caches(state) if hasattr(x, part))
    return max(slots, default=BLOCK) // BLOCK


def _collectives(cost: Cost) -> tuple[Mapping[str, Any], ...]:
    return tuple(dataclasses.asdict(x) for x in cost.collectives.values())


def _compiled(
    name: str, lowered: jax.stages.Lowered, chip: Chip, weights: Any, state: Any
) -> jax.stages.Compiled:
    """Returns the compiled program; refuses one that does not fit the chip's HBM."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not (found := _TOO_MUCH.search(str(error))):
            raise
        needs = float(found[1]) * _UNITS[found[2]] if found[1] else math.nan
        held = device_bytes(weights), cache_bytes(state)
        raise UserError(_does_not_fit(name, chip, needs, *held)) from error


def _does_not_fit(name: str, chip: Chip, needs: float, weights: int, caches: int) -> str:
    if math.isnan(needs):
        amount = f"more than the {chip.hbm_bytes / GIB:.1f} GiB of HBM of a {chip.name}"
    else:
        amount = (
            f"{needs / GIB:.1f} GiB beside {weights / GIB:.1f} GiB of weights and "
            f"{caches / GIB:.1f} GiB of caches; a {chip.name} has {chip.hbm_bytes / GIB:.1f} GiB"
        )
    if weights > chip.hbm_bytes / 2:
        advice = (
            "raise execution.mesh.model, or set generator.dtype and verifier.dtype to bfloat16, or "
            "generator.weights and verifier.weights to int8"
        )
    else:
        advice = (
            "lower execution.rows or sampling.n (or sampling.max_new_tokens), raise "
            "execution.mesh.model, or set generator.cache and verifier.cache to int8"
        )
    return f"{name} does not fit: each device needs {amount}; {advice}"
