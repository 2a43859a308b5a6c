"""One update of a model, as a program for a mesh: the gradient part by part, AdamW, a watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models import parameters
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.sampling.keys import training_key
from ttc_jax.sharding.mesh import sharding, shardings
from ttc_jax.training.batches import Batch
from ttc_jax.training.optimisation import Optimisation

Weights = dict[str, Array]  # by name, as in `parameters.named`
Sums = tuple[Float[Array, ""], Float[Array, ""]]
Arrays = Mapping[str, Array]  # a batch on the devices
Loss = Callable[[Any, Arrays, TrainMode | None], Sums]
NEVER = -1


class Trouble(NamedTuple):
    """The first update whose loss or gradient was no good; kept on the device, so nobody waits."""

    step: Int[Array, ""]  # from 0, or NEVER
    loss: Float[Array, ""]
    norm: Float[Array, ""]  # of the gradient before clipping


class State(NamedTuple):
    """What an update changes. From the first trouble on it changes nothing."""

    weights: Weights
    optimiser: Any
    trouble: Trouble


class Program:
    """Updates and evaluations of a model, compiled once for each shape of batch.

    Parameters and optimiser lie over the mesh by its rules, the rows of a batch over `data`.

    Args:
      model: stays as it is; the weights that move are copies. An outline (`parameters.outline`) is
        enough for `lower`.
      loss: as in `fit`.
      trainable: NNX filter of the parameters that move.
      seed: of dropout.

    Raises:
      UserError: the mesh does not divide the model.
    """

    def __init__(
        self,
        model: nnx.Module,
        loss: Loss,
        optimisation: Optimisation,
        *,
        trainable: Any,
        mesh: Mesh,
        seed: int,
    ):
        self._loss, self._optimisation, self._seed = loss, optimisation, seed
        self._transform = optimisation.transform()
        self._graph, self._moving, still = nnx.split(model, trainable, ...)
        self._still = _spread(still, shardings(still, mesh))
        self._rows = NamedSharding(mesh, PartitionSpec(None, "data"))
        everywhere: Any = NamedSharding(mesh, PartitionSpec())
        weights = parameters.named(self._moving)
        places: Any = {name: sharding(name, x.shape, mesh) for name, x in weights.items()}
        optimiser = optax.tree_map_params(
            self._transform,
            lambda _, place: place,
            jax.eval_shape(self._transform.init, weights),
            places,
            transform_non_params=lambda _: everywhere,
        )
        self._places = State(places, optimiser, everywhere)
        self._update = jax.jit(
            self._next, donate_argnums=0, out_shardings=(self._places, everywhere)
        )
        self._evaluate = jax.jit(self._sums_of_parts, out_shardings=everywhere)

    def start(self) -> State:
        """The state before the first update: float32 copies of the model's weights."""
        weights = parameters.named(self._moving)
        weights = {name: x.astype(jnp.float32) for name, x in weights.items()}
        weights = _spread(weights, self._places.weights)
        optimiser = jax.jit(self._transform.init, out_shardings=self._places.optimiser)(weights)
        trouble = Trouble(jnp.int32(NEVER), jnp.float32(0), jnp.float32(0))
        return State(weights, optimiser, _spread(trouble, self._places.trouble))

    def lower(self, batch: Mapping[str, jax.ShapeDtypeStruct]) -> jax.stages.Lowered:
        """The update for batches of the shapes of `batch`, [rows, …], ready to be compiled.

        Nothing is computed, and the devices of the mesh need not be there.
        """
        parts = self._optimisation.accumulate
        cut = {
            name: jax.ShapeDtypeStruct((parts, x.shape[0] // parts, *x.shape[1:]), x.dtype)
            for name, x in batch.items()
        }
        cut = {name: _spread(x, self._rows) for name, x in cut.items()}
        step = jax.ShapeDtypeStruct((), np.int32)
        return self._update.lower(self.state, self._still, cut, step)

    @property
    def state(self) -> State:
        """What `start` gives, as shapes with shardings."""
        weights = {
            name: jax.ShapeDtypeStruct(x.shape, jnp.float32)
            for name, x in parameters.named(self._moving).items()
        }
        trouble = jax.eval_shape(lambda: Trouble(*map(jnp.asarray, (jnp.int32(NEVER), 0.0, 0.0))))
        everywhere: Any = self._places.trouble
        return State(
            _spread(weights, self._places.weights),
            _spread(jax.eval_shape(self._transform.init, weights), self._places.optimiser),
            _spread(trouble, everywhere),
        )

    def update(self, state: State, batch: Batch, step: int) -> tuple[State, dict[str, Array]]:
        """Update number `step`, from 0; `state` is used up.

        Returns:
          The next state, and what there was to see: "loss" and "gradient_norm".
        """
        return self._update(state, self._still, self._put(batch), np.int32(step))

    def evaluate(self, weights: Weights, batches: Iterable[Batch]) -> float:
        """The mean loss over all batches, without a mode."""
        sums = [self._evaluate(weights, self._still, self._put(batch)) for batch in batches]
        total, weight = np.asarray(jax.device_get(sums), np.float64).sum(0)
        return float(total / weight)

    def _put(self, batch: Batch) -> Arrays:
        """On the mesh, cut into parts: [rows, …] becomes [parts, rows of a part, …]."""
        parts = self._optimisation.accumulate
        cut = {name: x.reshape(parts, -1, *x.shape[1:]) for name, x in batch.items()}
        return _spread(cut, self._rows)

    def _next(
        self, state: State, still: nnx.State, parts: Arrays, step: Int[Array, ""]
    ) -> tuple[State, dict[str, Array]]:
        mean, gradient = self._gradient(state.weights, still, parts, step)
        norm = optax.tree.norm(gradient)
        # A norm that is no number is not below the limit either.
        good = jnp.isfinite(mean) & (norm <= self._optimisation.gradient_limit)
        first = ~good & (state.trouble.step == NEVER)
        trouble = _where(first, Trouble(step, mean, norm), state.trouble)
        change, optimiser = self._transform.update(gradient, state.optimiser, state.weights)
        moved = optax.apply_updates(state.weights, change), optimiser
        weights, optimiser = _where(trouble.step == NEVER, moved, (state.weights, state.optimiser))
        return State(weights, optimiser, trouble), {"loss": mean, "gradient_norm": norm}

    def _gradient(
        self, weights: Weights, still: nnx.State, parts: Arrays, step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], Weights]:
        """The mean loss of a batch and its gradient: sums over all parts, then the quotient."""
        key = training_key(self._seed, step)
        mode = TrainMode(key, self._optimisation.dropout, self._optimisation.remat)

        def add(so_far: Any, numbered: tuple[Array, Arrays]) -> tuple[Any, None]:
            number, part = numbered
            found = jax.value_and_grad(self._sums, has_aux=True)(
                weights, still, part, mode.at(number)
            )
            return jax.tree.map(jnp.add, so_far, found), None

        zero = jnp.zeros((), jnp.float32)
        start = ((zero, zero), jax.tree.map(jnp.zeros_like, weights))
        numbers = jnp.arange(self._optimisation.accumulate)
        ((total, weight), gradient), _ = lax.scan(add, start, (numbers, parts))
        weight = jnp.where(weight > 0, weight, 1.0)  # a batch may ask for nothing
        return total / weight, jax.tree.map(lambda x: x / weight, gradient)

    def _sums_of_parts(self, weights: Weights, still: nnx.State, parts: Arrays) -> Sums:
        totals, counts = lax.map(lambda part: self._sums(weights, still, part, None), parts)
        return totals.sum(), counts.sum()

    def _sums(
        self, weights: Weights, still: nnx.State, part: Arrays, mode: TrainMode | None
    ) -> Sums:
        """The loss as it is computed: with all arrays in the dtype that is asked for."""

        def narrow(x: Array) -> Array:
            floating = jnp.issubdtype(x.dtype, jnp.floating)
            return x.astype(self._optimisation.compute_dtype) if floating else x

        state = parameters.as_state(jax.tree.map(narrow, weights), self._moving)
        model = nnx.merge(self._graph, state, jax.tree.map(narrow, still))
        return self._loss(model, part, mode)


def _spread(arrays: Any, places: Any) -> Any:
    """Copies of what every host has whole, over devices of all hosts: each puts its own part.

    Of shapes alone, which `Program.lower` needs, the same shapes in their places.
    """

    def laid(x: Any, place: NamedSharding) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
        if jax.process_count() == 1:
            return jax.device_put(x, place, may_alias=False)
        return jax.make_array_from_callback(x.shape, place, np.array(x).__getitem__)

    return jax.tree.map(
        lambda place, below: jax.tree.map(lambda x: laid(x, place), below), places, arrays
    )


def _where(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(partial(jnp.where, condition), new, old)
