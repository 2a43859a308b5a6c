"""What each number of a model's shape may be, wherever it was read: one check for all sources."""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from ttc_jax.errors import UserError

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


class FieldError(UserError):
    """A field of a shape that cannot be; `naming` says in which file, and what it is called there.

    Args:
      field: dotted name in `ModelConfig`.
      problem: what it is and must be, as the end of a sentence.
      beside: another field that the sentence ends with, and its value.
    """

    def __init__(self, field: str, problem: str, beside: tuple[str, Any] | None = None):
        self.field, self.problem, self.beside = field, problem, beside
        super().__init__(self.sentence({}, "model."))

    def sentence(self, names: Mapping[str, str], prefix: str = "") -> str:
        """The whole sentence, with the fields called by `names`, or else by their own."""
        text = f"{names.get(self.field, prefix + self.field)} {self.problem}"
        if self.beside is not None:
            other, value = self.beside
            text += f" {names.get(other, prefix + other)} {value}"
        return text


@contextlib.contextmanager
def naming(where: str, names: Mapping[str, str] | None = None, prefix: str = "") -> Iterator[None]:
    """Adds the file, and the names that fields have there, to what a check refuses.

    Args:
      where: the file.
      names: dotted name in `ModelConfig` -> name in the file, where they differ.
      prefix: what stands before a name that does not.
    """
    try:
        yield
    except FieldError as error:
        raise UserError(f"{where}: {error.sentence(names or {}, prefix)}") from error


@runtime_checkable
class Limit(Protocol):
    """A condition on one value."""

    def __call__(self, value: Any) -> bool:
        """Whether the value may be."""
        ...


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number within bounds. They exclude what no model has, not what no machine holds."""

    least: int
    most: int

    def __call__(self, value: Any) -> bool:
        """See `Limit`."""
        return _is(value, numbers.Integral) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number above 0; at least `least` and at most `most`, if they are given."""

    least: float | None = None
    most: float | None = None

    def __call__(self, value: Any) -> bool:
        """See `Limit`."""
        # Beyond these bounds it is 0, infinite or NaN in float32, in which models compute.
        if not _is(value, numbers.Real) or not 1e-37 < value < 1e37:
            return False
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        least = "above 0" if self.least is None else f"of at least {self.least:g}"
        most = "" if self.most is None else f" and at most {self.most:g}"
        return f"a finite number {least}{most}"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of a few values, and of their type."""

    values: tuple[Any, ...]

    def __call__(self, value: Any) -> bool:
        """See `Limit`."""
        return any(type(value) is type(known) and value == known for known in self.values)

    def __str__(self) -> str:
        return " or ".join(map(repr, self.values))


@dataclasses.dataclass(frozen=True)
class Or:
    """A condition, or one value beside it."""

    limit: Limit
    value: Any = None

    def __call__(self, value: Any) -> bool:
        """See `Limit`."""
        return value is self.value or self.limit(value)

    def __str__(self) -> str:
        return f"{self.limit}, or {self.value!r}"


def _is(value: Any, kind: type) -> bool:
    """Whether it is a number of this kind, which `True` is not."""
    return isinstance(value, kind) and not isinstance(value, bool)


POSITIVE, SWITCH = Number(), OneOf((True, False))
LAYERS = Whole(1, 2**10)  # of a public checkpoint
CONTEXT = Whole(1, 2**31 - 1)  # positions are int32
MODEL: Mapping[str, Limit] = {
    "vocab_size": Whole(1, 2**24),
    "width": Whole(1, 2**20),
    "depth": Whole(0, 2**10),  # 0: a verifier of ours without layers of its own
    "heads": Whole(1, 2**14),
    "kv_heads": Whole(1, 2**14),
    "head_size": Whole(1, 2**14),
    "ffn_width": Whole(1, 2**22),
    "context": CONTEXT,
    "norm_eps": Number(most=1.0),
    "activation": OneOf(("silu", "gelu_tanh")),
    **dict.fromkeys(
        ("qkv_bias", "out_bias", "ffn_bias", "qk_norm", "post_norms", "tied_head"), SWITCH
    ),
    "embedding_scale": POSITIVE,
    "attention_scale": Or(POSITIVE),
    "attention_softcap": Or(POSITIVE),
    "logit_softcap": Or(POSITIVE),
}
WINDOW = Or(CONTEXT)
ROPE: Mapping[str, Limit] = {
    "theta": Number(least=1.0),
    "linear_factor": POSITIVE,
    "llama3_factor": POSITIVE,
    "llama3_low_freq_factor": POSITIVE,
    "llama3_high_freq_factor": POSITIVE,
    "llama3_original_context": CONTEXT,
    "yarn_factor": Number(least=1.0),
    "yarn_original_context": CONTEXT,
    "yarn_beta_fast": POSITIVE,
    "yarn_beta_slow": POSITIVE,
    "yarn_truncate": SWITCH,
    "attention_factor": POSITIVE,
}


def check(field: str, value: Any, limit: Limit) -> None:
    """Refuses a value that is beyond its limit.

    Raises:
      FieldError: names the field, the value and the limit.
    """
    if not limit(value):
        raise FieldError(field, f"is {show(value)}; it must be {limit}")


def show(value: Any) -> str:
    """The value, cut off where it is long or nested."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {int(value.bit_length() * 0.30103) + 1} digits"
    return _SHORT.repr(value)


def printable(text: str, most: int = 200) -> str:
    """Text of a file or another package as part of one line: blanks joined, signs escaped, cut."""
    line = " ".join(text[: 4 * most].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return line if len(line) <= most else f"{line[:most]}…"


def check_names(data: Any, known: type, field: str = "") -> None:
    """Refuses what is no JSON object, or lacks or adds to the fields of a dataclass.

    Raises:
      FieldError: names one field that is unknown or missing.
    """
    if not isinstance(data, dict):
        raise FieldError(field or "config", f"is {show(data)}; it must be an object")
    before = f"{field}." if field else ""
    fields = {f.name: f for f in dataclasses.fields(known)}
    for name in data:
        if name not in fields:
            raise FieldError(before + printable(name, 60), "is unknown")
    for name, described in fields.items():
        required = described.default is described.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise FieldError(before + name, "is missing")
