"""What a compiled program costs, read from the text that XLA gives of it.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs, an update in place
as if it read and wrote the whole array, and on-chip memory as if it were HBM. Here

- a loop counts as often as it runs: its trip count where it is a constant, else what the caller
  says;
- `dynamic-update-slice` and `scatter` count what they change, `dynamic-slice` and `gather` what
  they take out, also inside fusions;
- what lies in on-chip memory (`S(1)` in a layout) costs no HBM traffic, and what lies in HBM costs
  what it takes there, with the padding of its tiles;
- products count 2 FLOPs for each pair of numbers that meet: of the convolutions that XLA:TPU makes
  of them, padding and the holes of dilation are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Self

import numpy as np

_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "token": 0}
_ARRAY = re.compile(r"([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:true_computation|false_computation)=%?([\w.\-]+)")
# What neither computes nor moves anything, or is counted where it starts.
_FREE = [
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "domain",
    "copy-done",
    "slice-done",
    "async-done",
    "async-update",
    "add-dependency",
]
_FREE_CALLS = ("ConcatBitcast", "AssumeGatherIndicesInBound", "Sharding", "SPMD")
_COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip
_HOST = ("infeed", "outfeed", "send", "recv")
_HOST_SPACE = 5


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array of a program."""

    bytes: int  # with the padding of its tiles
    shape: tuple[int, ...]
    space: int  # 0 is HBM

    @property
    def traffic(self) -> int:
        """Bytes of HBM that reading or writing all of it moves."""
        return self.bytes if self.space == 0 else 0

    @classmethod
    def read(cls, kind: str, shape: str, layout: str | None) -> Self:
        """As the text has it: "bf16", "8,64", "1,0:T(8,128)(2,1)S(1)"."""
        sizes = tuple(int(size) for size in shape.split(",") if size)
        padded, order, _ = list(sizes), *(layout or "").partition(":")[::2]
        space = re.search(r"S\((\d+)\)", layout or "")
        tile = re.search(r"T\(([\d,]+)\)", layout or "")
        if tile and sizes:
            minor = [int(axis) for axis in order.split(",") if axis]
            for axis, length in zip(minor, reversed(tile[1].split(",")), strict=False):
                padded[axis] = -(-padded[axis] // int(length)) * int(length)
            if len(tile[1].split(",")) == 1 and len(sizes) == 1:
                padded = list(sizes)  # vectors are small, and their tiles long
        bits = _BITS.get(kind) or int(re.sub(r"\D.*", "", kind.lstrip("abcdefsu")) or 0)
        return cls(math.prod(padded) * bits // 8, sizes, int(space[1]) if space else 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    results: tuple[Buffer, ...]
    operands: tuple[str, ...]
    attributes: str
    scope: str  # `op_name`: where in the traced program it comes from
    root: bool

    @property
    def called(self) -> str | None:
        """The computation that it runs as its own."""
        found = _CALLED.search(self.attributes)
        return found[1] if found else None

    def attribute(self, name: str) -> str:
        """Such as `dim_labels`; "" where there is none."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.attributes)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Collective:
    """Exchanges of one kind."""

    kind: str
    count: int
    bytes: int  # of their results, on one device
    scopes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a computation, on one device."""

    flops: float = 0.0
    bytes: float = 0.0  # moved to and from HBM
    collectives: Mapping[str, Collective] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        kinds = dict(self.collectives)
        for kind, new in other.collectives.items():
            old = kinds.get(kind, Collective(kind, 0, 0))
            scopes = tuple(dict.fromkeys(old.scopes + new.scopes))
            kinds[kind] = Collective(kind, old.count + new.count, old.bytes + new.bytes, scopes)
        return Cost(self.flops + other.flops, self.bytes + other.bytes, kinds)

    def times(self, count: int) -> Cost:
        """So many times."""
        kinds = {
            kind: dataclasses.replace(x, count=x.count * count, bytes=x.bytes * count)
            for kind, x in self.collectives.items()
        }
        return Cost(self.flops * count, self.bytes * count, kinds)


Computation = dict[str, Instruction]


class Hlo:
    """A compiled program.

    Args:
      text: `Compiled.as_text()`.
    """

    def __init__(self, text: str):
        self._computations: dict[str, Computation] = {}
        self._entry = ""
        current: Computation = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = self._computations.setdefault(head[2], {})
                self._entry = head[2] if head[1] else self._entry
            elif (found := _LINE.match(line)) and (read := _instruction(found)):
                current[read.name] = read

    def cost(
        self,
        computation: str | None = None,
        trips: int = 1,
        scopes: Mapping[str, int] = MappingProxyType({}),
    ) -> Cost:
        """What running a computation once costs.

        Args:
          computation: the whole program by default.
          trips: how often loops run whose number of turns is no constant.
          scopes: the same of loops inside some `jax.named_scope`.
        """
        total = Cost()
        inside = self._computations[computation or self._entry]
        for x in inside.values():
            if x.opcode == "while":
                body, condition = x.attribute("body"), x.attribute("condition")
                count = self._trips(condition.lstrip("%"))
                if count is None:
                    known = (n for scope, n in scopes.items() if _within(scope, x.scope))
                    count = next(known, trips)
                turn, test = (
                    self.cost(name.lstrip("%"), trips, scopes) for name in (body, condition)
                )
                total += (turn + test).times(count)
            elif x.opcode == "conditional":
                names = _BRANCHES.findall(x.attributes) or re.findall(
                    r"[\w.\-]+", x.attribute("branch_computations")
                )
                branches = [self.cost(name, trips, scopes) for name in names]
                total += max(branches, key=lambda cost: cost.bytes, default=Cost())
            elif x.opcode == "call" and x.called:
                total += self.cost(x.called, trips, scopes)
            else:
                total += Cost(self._flops(x, inside), self._bytes(x, inside), _collective(x))
        return total

    def loop(self, scope: str) -> str:
        """The computation that is one turn of the loop round `jax.named_scope(scope)`.

        It holds all that a turn does, also what the compiler added without a name.
        """
        bodies = {}
        for x in self._everything():
            if x.opcode == "while" and not _within(scope, x.scope):
                body = x.attribute("body").lstrip("%")
                inside = self._computations[body].values()
                bodies[body] = sum(_within(scope, y.scope) for y in inside)
        best = max(bodies, key=lambda name: bodies[name], default="")
        if not bodies.get(best):
            raise ValueError(f"no loop round {scope}")
        return best

    def host_transfers(self) -> list[str]:
        """Names of instructions that exchange something with the host."""
        return [
            x.name
            for x in self._everything()
            if x.opcode in _HOST
            or "callback" in x.attribute("custom_call_target")
            or any(buffer.space == _HOST_SPACE for buffer in x.results)
        ]

    def copies(self, least: int, computation: str | None = None) -> list[tuple[str, int]]:
        """Names and bytes of arrays of at least so many bytes that are moved to another layout."""
        inside = self._computations[computation or self._entry].values()
        found = [(x.name, x.results[0].bytes) for x in inside if x.opcode in ("copy", "transpose")]
        return [(name, size) for name, size in found if size >= least]

    def _everything(self) -> Iterator[Instruction]:
        for computation in self._computations.values():
            yield from computation.values()

    @functools.cache  # noqa: B019 - programs are few and live as long as the table of them
    def _trips(self, condition: str) -> int | None:
        """Turns of a loop that counts from 0 to a constant; None: it depends on data."""
        inside = self._computations[condition]
        root = next(x for x in inside.values() if x.root)
        if root.opcode != "compare" or root.attribute("direction") != "LT":
            return None
        limit = inside.get(root.operands[1])
        if limit is None or limit.opcode != "constant":
            return None
        return int(limit.attributes.partition(")")[0].lstrip("("))

    def _bytes(self, x: Instruction, inside: Computation) -> float:
        if x.opcode in _FREE or x.attribute("custom_call_target").strip('"').startswith(
            _FREE_CALLS
        ):
            return 0
        if x.opcode in ("copy-start", "slice-start"):
            return self._moved(x)
        operands = [inside[name].results for name in x.operands if name in inside]
        if x.called and x.opcode in ("fusion", "async-start"):
            fused = self._computations[x.called]
            parameters = [y for y in fused.values() if y.opcode == "parameter"]
            parameters.sort(key=lambda y: int(y.attributes.partition(")")[0].lstrip("(")))
            reads = sum(
                min(self._read(y.name, fused), sum(buffer.traffic for buffer in given))
                for y, given in zip(parameters, operands, strict=False)
            )
            return reads + self._written(x, fused)
        return self._direct(x, operands)

    @staticmethod
    def _moved(x: Instruction) -> int:
        """Of a copy between memories: results are where it goes to and comes from, or the reverse.

        A slice is as long as its destination.
        """
        first, second = x.results[:2]
        if x.opcode == "copy-start":
            return first.traffic + second.traffic
        return (first.space == 0) * second.bytes + second.traffic

    @staticmethod
    def _direct(x: Instruction, operands: list[tuple[Buffer, ...]]) -> int:
        written = sum(buffer.traffic for buffer in x.results)
        reads = [sum(buffer.traffic for buffer in given) for given in operands]
        if x.opcode in ("dynamic-slice", "gather", "slice") and reads:
            return written + min(reads[0], sum(buffer.bytes for buffer in x.results))
        if x.opcode == "dynamic-update-slice":
            return reads[1] + min(written, sum(buffer.bytes for buffer in operands[1]))
        if x.opcode == "scatter":
            return reads[1] + 2 * sum(buffer.bytes for buffer in operands[2])
        return written + sum(reads)

    def _read(self, name: str, fused: Computation) -> int:
        """Bytes of a fusion's parameter, or of what it is inside, that are read."""
        total = 0
        for x in fused.values():
            if name not in x.operands:
                continue
            size = sum(buffer.bytes for buffer in x.results)
            first = x.operands[0] == name
            if self._is_view(x):
                whole = sum(b.bytes for b in fused[name].results)
                total += whole if x.root else self._read(x.name, fused)
            elif x.opcode in ("dynamic-slice", "gather", "slice") and first:
                total += size
            elif x.opcode == "dynamic-update-slice" and first:
                continue
            elif x.opcode == "fusion" and x.called:
                inner = self._computations[x.called]
                for place, operand in enumerate(x.operands):
                    if operand == name:
                        total += self._read(_parameter(inner, place), inner)
            else:
                return sum(buffer.bytes for buffer in fused[name].results)
        return total

    def _is_view(self, x: Instruction) -> bool:
        """Whether it shows its operand where that lies, perhaps in tiles of another size.

        Of int8, whose tiles are longer, a TPU's compiler says that as a copy in place.
        """
        if x.opcode != "fusion" or "output_to_operand_aliasing=" not in x.attributes:
            return x.opcode == "bitcast"
        inside = self._computations[x.called].values() if x.called else ()
        return all(y.opcode in ("parameter", "bitcast", "copy") for y in inside)

    def _written(self, x: Instruction, fused: Computation) -> int:
        root = next(y for y in fused.values() if y.root)
        ends = [fused[n] for n in root.operands] if root.opcode == "tuple" else [root]
        if len(ends) != len(x.results):
            return sum(buffer.traffic for buffer in x.results)
        return sum(
            min(buffer.traffic, self._changed(end, fused))
            for buffer, end in zip(x.results, ends, strict=True)
        )

    def _changed(self, x: Instruction, fused: Computation) -> int:
        """Bytes that an instruction at a fusion's end writes."""
        while x.opcode == "bitcast" and x.operands[0] in fused:
            x = fused[x.operands[0]]
        if x.opcode == "dynamic-update-slice":
            return sum(buffer.bytes for buffer in fused[x.operands[1]].results)
        if x.opcode == "scatter":
            return 2 * sum(buffer.bytes for buffer in fused[x.operands[2]].results)
        if x.opcode == "fusion" and x.called:
            return self._written(x, self._computations[x.called])
        return sum(buffer.bytes for buffer in x.results)

    def _flops(self, x: Instruction, inside: Computation) -> float:
        if x.called and x.opcode in ("fusion", "async-start"):
            fused = self._computations[x.called]
            return sum(self._flops(y, fused) for y in fused.values())
        if x.opcode == "dot":
            left = inside[x.operands[0]].results[0].shape
            axes = re.findall(r"\d+", x.attribute("lhs_contracting_dims"))
            return 2.0 * math.prod(x.results[0].shape) * math.prod(left[int(a)] for a in axes)
        if x.opcode == "convolution":
            left, right = (inside[name].results[0].shape for name in x.operands[:2])
            return _convolution_flops(x, left, right)
        return 0.0


def _within(scope: str, name: str) -> bool:
    return bool(re.search(rf"(^|/){re.escape(scope)}(/|$)", name))


def _instruction(found: re.Match[str]) -> Instruction | None:
    """Of a line "name = type opcode(operands), attributes"."""
    rest = found[3]
    cut = _end_of_type(rest)
    call = re.match(r"([a-z][\w\-]*)\(", rest[cut:].lstrip())
    if call is None:
        return None
    behind = rest[cut:].lstrip()[call.end() :]
    opcode = call[1]
    inner, _, attributes = behind.partition(")")
    if opcode in ("parameter", "constant"):
        operands, attributes = (), f"({behind}"
    else:
        operands = tuple(re.findall(r"%([\w.\-]+)", inner))
    scope = re.search(r'op_name="([^"]*)"', behind)
    return Instruction(
        name=found[2],
        opcode=opcode,
        results=tuple(Buffer.read(*array) for array in _ARRAY.findall(rest[:cut])),
        operands=operands,
        attributes=attributes,
        scope=scope[1] if scope else "",
        root=bool(found[1]),
    )


def _end_of_type(text: str) -> int:
    """Where the type at the beginning of a line ends: a tuple has blanks inside."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == " " and depth == 0:
            return at
    return len(text)


def _parameter(computation: Computation, place: int) -> str:
    return next(
        x.name
        for x in computation.values()
        if x.opcode == "parameter" and x.attributes.startswith(f"({place})")
    )


def _collective(x: Instruction) -> dict[str, Collective]:
    kind = x.opcode.removesuffix("-start")
    if kind not in _COLLECTIVES:
        return {}
    # A start holds its operands beside its results.
    results = x.results if kind == x.opcode else x.results[len(x.results) // 2 :] or x.results
    size = sum(buffer.bytes for buffer in results)
    return {kind: Collective(kind, 1, size, (x.scope,))}


def _convolution_flops(x: Instruction, left: tuple[int, ...], right: tuple[int, ...]) -> float:
    """2 for each output, kernel feature and place of the window where a number lies."""
    inputs, kernel, outputs = re.split(r"_|->", x.attribute("dim_labels"))
    out = x.results[0].shape
    found = 2.0 * right[kernel.index("i")]
    found *= out[outputs.index("b")] * out[outputs.index("f")]
    window = {
        name: re.split("x", value)
        for name, value in re.findall(r"(\w+)=([\dx_\-]+)", x.attribute("window"))
    }
    for axis in map(str, range(len(inputs) - 2)):
        i = int(axis)
        pads = window.get("pad", ["0_0"] * len(inputs))[i].split("_")

        def of(name: str, default: int, i: int = i) -> int:
            return int(window[name][i]) if name in window else default

        found *= _meetings(
            left[inputs.index(axis)],
            right[kernel.index(axis)],
            out[outputs.index(axis)],
            of("stride", 1),
            int(pads[0]),
            of("lhs_dilate", 1),
            of("rhs_dilate", 1),
        )
    return found


def _meetings(
    size: int, window: int, outputs: int, stride: int, pad: int, spread: int, step: int
) -> int:
    """Pairs of an output and a place of its window where the input holds a number."""
    at = np.arange(outputs)[:, None] * stride + np.arange(window)[None] * step - pad
    return int(((at >= 0) & (at % spread == 0) & (at // spread < size)).sum())
