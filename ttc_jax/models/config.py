"""The shape of a decoder: everything that tells Llama, Mistral, Qwen and Gemma apart, as data."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ttc_jax.models import limits
from ttc_jax.models.limits import FieldError


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding of one layer.

    `linear_factor` divides every frequency (Gemma 3's global layers). The `llama3_*` fields, when
    `llama3_factor` is not 1, slow just the low frequencies down (Llama 3.1 and later). The `yarn_*`
    fields, when `yarn_factor` is not 1, do so by YaRN's rule (Qwen at long contexts), of which
    `attention_factor`, that multiplies every cosine and sine, is a part too.
    """

    theta: float = 10_000.0
    linear_factor: float = 1.0
    llama3_factor: float = 1.0
    llama3_low_freq_factor: float = 1.0
    llama3_high_freq_factor: float = 4.0
    llama3_original_context: int = 8192
    yarn_factor: float = 1.0
    yarn_original_context: int = 32_768
    yarn_beta_fast: float = 32.0  # turns in the original context from which a frequency stays
    yarn_beta_slow: float = 1.0  # turns in it up to which a frequency is divided by the factor
    yarn_truncate: bool = True  # whether the bounds between these are whole pairs of features
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        for name, limit in limits.ROPE.items():
            limits.check(f"rope.{name}", getattr(self, name), limit)
        for low, high in (
            ("llama3_low_freq_factor", "llama3_high_freq_factor"),
            ("yarn_beta_slow", "yarn_beta_fast"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least >= most:
                other = (f"rope.{high}", most)
                raise FieldError(f"rope.{low}", f"is {least}; it must be below", other)
        if self.yarn_factor != 1 and self.theta == 1:
            raise FieldError("rope.theta", "is 1; of YaRN it must be above 1")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer. Hashable, so that it can be a static argument of `jax.jit`.

    `windows` and `ropes` hold one entry a layer: layers of Gemma differ in both. A window of `None`
    is full attention; a window of w lets a token see itself and the w - 1 tokens before it.
    """

    vocab_size: int  # V
    width: int  # D
    depth: int  # L
    heads: int  # H
    kv_heads: int  # K
    head_size: int  # h
    ffn_width: int  # F
    context: int  # longest prompt + answer, tokens
    windows: tuple[int | None, ...] = ()
    ropes: tuple[Rope, ...] = ()
    norm_eps: float = 1e-6
    activation: Literal["silu", "gelu_tanh"] = "silu"
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False  # Gemma: a norm after attention and ffn too, before the residual sum
    tied_head: bool = True
    embedding_scale: float = 1.0
    attention_scale: float | None = None  # None: 1 / sqrt(h)
    attention_softcap: float | None = None
    logit_softcap: float | None = None

    def __post_init__(self) -> None:
        for name, limit in limits.MODEL.items():  # before anything is made for each layer
            limits.check(name, getattr(self, name), limit)
        if not self.windows:
            object.__setattr__(self, "windows", (None,) * self.depth)
        if not self.ropes:
            object.__setattr__(self, "ropes", (Rope(),) * self.depth)
        if self.attention_scale is None:
            object.__setattr__(self, "attention_scale", self.head_size**-0.5)
        for name in ("windows", "ropes"):
            if (count := len(getattr(self, name))) != self.depth:
                raise FieldError(name, f"has {count} entries for {self.depth} layers")
        for window in self.windows:
            limits.check("windows", window, limits.WINDOW)
        if self.heads % self.kv_heads:
            other = ("kv_heads", self.kv_heads)
            raise FieldError("heads", f"is {self.heads}, not a multiple of", other)
        if self.head_size % 2:
            raise FieldError(
                "head_size", f"is {self.head_size}; it must be even (rotary embedding)"
            )

    @property
    def group(self) -> int:
        """G: query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def block_parameters(self) -> int:
        """Weights of the L blocks that a token is multiplied with (norms and biases left out)."""
        qkv = self.width * self.kv_heads * (self.group + 2) * self.head_size
        out = self.heads * self.head_size * self.width
        return self.depth * (qkv + out + 3 * self.width * self.ffn_width)

    @property
    def head_parameters(self) -> int:
        """Weights of the map from the last hidden state to the vocabulary."""
        return self.width * self.vocab_size

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelConfig:
        """The config that `to_json` wrote.

        Raises:
          FieldError: a field is unknown, missing, of another type or beyond its limits.
        """
        limits.check_names(data, cls)
        for name in ("ropes", "windows"):
            if not isinstance(data.get(name, ()), list | tuple):
                raise FieldError(name, f"is {limits.show(data[name])}; it must be a list")
        for i, rope in enumerate(data.get("ropes", ())):
            limits.check_names(rope, Rope, f"ropes[{i}]")
        ropes = tuple(Rope(**rope) for rope in data.get("ropes", ()))
        return cls(**{**data, "ropes": ropes, "windows": tuple(data.get("windows", ()))})
