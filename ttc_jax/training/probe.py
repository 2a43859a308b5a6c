"""Teaching a hidden-state probe: a PRM's examples and loss, on a generator that stays as it is."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ttc_jax.models.regime import Regime
from ttc_jax.models.transformer import Transformer
from ttc_jax.verifiers.probe import HiddenStateProbe


class Probed(nnx.Module):
    """A generator and a new probe on its hidden states."""

    def __init__(self, generator: Transformer):
        self.generator = generator
        self.probe = HiddenStateProbe(generator.config.width)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        prompt_lengths: Int[Array, " B"],
        regime: Regime | None = None,
    ) -> Float[Array, "B T"]:
        """Scores of whole sequences, as logits: of each token by what it was drawn from.

        That is the hidden state one token earlier, which the probe is shown in a search too.
        """
        del prompt_lengths, regime  # nothing is dropped in what is not taught
        hidden = self.generator(tokens)
        return self.probe(jnp.pad(hidden[:, :-1], ((0, 0), (1, 0), (0, 0))))


def of_probe(path: tuple[Any, ...], value: Any) -> bool:
    """NNX filter of the probe's parameters."""
    return path[0] == "probe" and isinstance(value, nnx.Param)
