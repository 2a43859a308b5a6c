"""A tiny PRM on the tiny generator's vocabulary."""

import dataclasses

import jax
from flax import nnx

from tests.sampling.oracle import TINY
from ttc_jax.models.config import ModelConfig
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig


def tiny_prm(trunk: ModelConfig = TINY, *, layered: bool = True) -> ProcessRewardModel:
    """Random in all its parts: a new PRM's head is zero, which would hide everything else."""
    if not layered:
        return _random_head(PRMConfig(trunk))
    layers = dataclasses.replace(trunk, width=12, depth=1, kv_heads=1, windows=(), ropes=())
    return _random_head(PRMConfig(trunk, layers, reads_tokens=True))


def _random_head(config: PRMConfig) -> ProcessRewardModel:
    prm = nnx.jit(lambda: ProcessRewardModel(config, rngs=nnx.Rngs(1)))()
    prm.score[...] = jax.random.normal(jax.random.key(2), prm.score[...].shape)
    return prm
