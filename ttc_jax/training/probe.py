"""Teaching a hidden-state probe: logistic regression on a PRM's examples, solved to its optimum.

The generator stays as it is, so that its hidden states are read once. What is left is convex, but
hidden states are far from round: gradient descent would still be on its way where Newton's kind of
methods have long arrived.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ttc_jax.models.regime import Regime
from ttc_jax.models.transformer import Transformer
from ttc_jax.training.batches import Batches
from ttc_jax.verifiers.probe import HiddenStateProbe

# Of half the squared weights on hidden states of unit variance, beside the mean loss of a step.
PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)

Steps = tuple[NDArray[np.float64], NDArray[np.float64]]  # [n, D] hidden states, [n] values


class Probed(nnx.Module):
    """A generator and a new probe on its hidden states."""

    def __init__(self, generator: Transformer):
        self.generator = generator
        self.probe = HiddenStateProbe(generator.config.width)

    def hidden(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """What each token was drawn from: the hidden state one token earlier.

        The probe is shown the same in a search.
        """
        return jnp.pad(self.generator(tokens)[:, :-1], ((0, 0), (1, 0), (0, 0)))

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        prompt_lengths: Int[Array, " B"],
        regime: Regime | None = None,
    ) -> Float[Array, "B T"]:
        """Scores of whole sequences, as logits."""
        del prompt_lengths, regime  # nothing is dropped in what is not taught
        return self.probe(self.hidden(tokens))


def solve(model: Probed, train: Batches, validation: Batches) -> dict[str, float]:
    """Gives the probe the weights of the lowest binary cross-entropy, in nats a step.

    The penalty on large weights is the one of `PENALTIES` that does best on `validation`. Hidden
    states at the ends of all steps are held in the host's memory.

    Returns:
      Tokens read, the penalty, and the validation loss.
    """
    states, values = _steps(model, train)
    held_out = _steps(model, validation)
    mean, scale = states.mean(0), np.maximum(states.std(0), 1e-6)
    states = (states - mean) / scale
    found = []
    for penalty in PENALTIES:
        start = np.zeros(states.shape[1] + 1)
        solution = minimize(_loss, start, (states, values, penalty), jac=True, method="L-BFGS-B").x
        weights = solution[1:] / scale
        bias = solution[0] - mean @ weights
        loss, _ = _loss(np.append(bias, weights), *held_out)
        found.append((loss, penalty, weights, bias))
    loss, penalty, weights, bias = min(found, key=lambda x: x[0])
    dtype = model.probe.weights[...].dtype
    model.probe.weights[...] = jnp.asarray(weights, dtype)
    model.probe.bias[...] = jnp.asarray(bias, dtype)
    tokens = int(sum(batch["lengths"].sum() for batch in train.all()))
    return {"tokens": tokens, "penalty": penalty, "validation_loss": loss}


def _loss(
    weights: NDArray[np.float64],
    states: NDArray[np.float64],
    values: NDArray[np.float64],
    penalty: float = 0.0,
) -> tuple[float, NDArray[np.float64]]:
    """The loss of a probe, and its gradient; the bias stands first."""
    bias, slope = weights[0], weights[1:]
    logits = states @ slope + bias
    loss = (np.logaddexp(0, logits) - values * logits).mean() + penalty * slope @ slope / 2
    error = (expit(logits) - values) / len(values)
    return float(loss), np.append(error.sum(), error @ states + penalty * slope)


def _steps(model: Probed, batches: Batches) -> Steps:
    """Hidden states where values are asked for, and those values."""
    graph, parameters = nnx.split(model)

    @jax.jit
    def read(parameters: Any, tokens: Array) -> Array:
        return nnx.merge(graph, parameters).hidden(tokens)

    states, values = [], []
    for batch in batches.all():
        asked = batch["weights"] > 0
        states.append(np.asarray(read(parameters, batch["tokens"]))[asked])
        values.append(batch["targets"][asked])
    return np.concatenate(states).astype(np.float64), np.concatenate(values).astype(np.float64)
