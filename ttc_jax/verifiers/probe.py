"""A hidden-state probe: a linear head on the generator's hidden states, which costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from ttc_jax.models import checkpoints, limits
from ttc_jax.models.transformer import FLOAT32
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

KIND = "probe"


class HiddenStateProbe(Verifier):
    """Reads the generator's last hidden state at a step's end: the one its last token came from.

    Args:
      width: D of the generator.
    """

    def __init__(self, width: int, *, dtype: jnp.dtype = FLOAT32):
        self.width = width
        self.weights = nnx.Param(jnp.zeros((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((), dtype))

    def __call__(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """Returns scores as logits."""
        weights = self.weights[...]
        return hidden.astype(weights.dtype) @ weights + self.bias[...]

    @property
    def spec(self) -> VerifierSpec:
        """The width of the hidden states that it reads; it reads nothing else."""
        return VerifierSpec(hidden_width=self.width)

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: tuple[()],
        decode: DecodeState,
    ) -> tuple[Float[Array, "B N T"], tuple[()]]:  # fmt: skip
        """Returns the chance of success at the end of the tokens, for all of them."""
        del count
        scores = jax.nn.sigmoid(self(decode.hidden).astype(jnp.float32))
        return jnp.broadcast_to(scores[..., None], tokens.shape), state

    def flops(self, first: int, tokens: int) -> int:
        """Returns 0: one product a step is nothing beside the generator."""
        del first, tokens
        return 0


def save_probe(path: str | Path, probe: HiddenStateProbe, metadata: Mapping[str, Any]) -> None:
    """Writes the probe's folder; `metadata` says how it was made, and of which generator."""
    config = {"width": probe.width}
    checkpoints.save(path, probe, checkpoints.Description(KIND, config, dict(metadata)))


def read_width(path: str | Path) -> int:
    """Returns the width of the hidden states that the probe in a folder reads."""

    def read(config: Mapping[str, Any]) -> int:
        limits.check("width", config["width"], limits.MODEL["width"])
        return config["width"]

    return checkpoints.read_config(path, KIND, read)


def load_probe(
    path: str | Path,
    *,
    dtype: jax.typing.DTypeLike = FLOAT32,
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> HiddenStateProbe:
    """Loads the probe in a folder that `save_probe` wrote.

    `dtype` and `mesh` are as for `load_generator`. It is small and has no cache, so that `weights`
    and `cache` change nothing.

    Raises:
      UserError: not such a folder, or parameters of another width.
    """
    del weights, cache
    width = read_width(path)
    return checkpoints.restore(
        path, lambda: HiddenStateProbe(width, dtype=jnp.dtype(dtype)), mesh=mesh
    )
