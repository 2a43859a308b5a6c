"""The PRM in pieces against the PRM in one pass, its folder, and where steps end."""

import dataclasses
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.sampling.oracle import TINY, tiny_generator
from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.models.checkpoints import save_model
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.verifiers.prm import ProcessRewardModel, load_prm, save_prm
from ttc_jax.verifiers.prm_config import PRMConfig

B, N, P, CHUNK, TOTAL = 2, 2, 6, 7, 24
LENGTHS = (1, 5)  # of the prompts; one token alone is not prefilled


@pytest.fixture(scope="module", params=["layers", "head on the trunk"])
def prm(request) -> ProcessRewardModel:
    return tiny_prm(layered=request.param == "layers")


@pytest.fixture(scope="module")
def compiled(prm):
    """`start`, `extend` and the whole pass."""
    graph, weights = nnx.split(prm)

    @jax.jit
    def start(prompts, lengths):
        return nnx.merge(graph, weights).init(prompts, lengths, N, TOTAL + CHUNK)

    @jax.jit
    def extend(tokens, state, real):
        return nnx.merge(graph, weights).extend(tokens, state, real)

    @jax.jit
    def whole(weights, tokens, lengths):
        return nnx.merge(graph, weights)(tokens, lengths)

    prompts = np.repeat(np.array(LENGTHS, np.int32), N)
    return start, extend, lambda tokens, of=prm: whole(nnx.state(of), tokens, prompts)


@hypothesis.settings(max_examples=15)
@hypothesis.given(st.data())
def test_reading_in_ragged_chunks_gives_the_scores_of_one_pass(compiled, data):
    start, extend, whole = compiled
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, TINY.vocab_size, (B, N, P + TOTAL), dtype=np.int32)
    tokens[:, 1, :P] = tokens[:, 0, :P]  # candidates share their prompt
    expected = np.asarray(whole(tokens.reshape(B * N, -1))).reshape(B, N, -1)

    state = start(tokens[:, 0, :P], np.array(LENGTHS, np.int32))
    done = np.broadcast_to(np.array(LENGTHS)[:, None] - 1, (B, N)).copy()
    ends = data.draw(arrays(np.int32, (B, N), elements=st.integers(5, TOTAL)), "ends")
    while (done < ends).any():
        real = np.minimum(data.draw(arrays(np.int32, (B, N), elements=st.integers(0, CHUNK))), ends)
        real = np.minimum(real, ends - done)
        if not real.any():
            real[np.unravel_index((ends - done).argmax(), real.shape)] = 1
        chunk = rng.integers(0, TINY.vocab_size, (B, N, CHUNK), dtype=np.int32)  # garbage behind
        for row in np.ndindex(B, N):
            chunk[row][: real[row]] = tokens[row][done[row] :][: real[row]]
        scores, state = extend(chunk, state, real)
        for row in np.ndindex(B, N):
            found = np.asarray(scores)[row][: real[row]]
            np.testing.assert_allclose(
                found, expected[row][done[row] :][: real[row]], atol=1e-5, rtol=1e-5
            )
        done += real


def test_a_score_depends_on_nothing_behind_it(compiled):
    tokens = np.random.default_rng(1).integers(0, TINY.vocab_size, (B * N, P + TOTAL))
    changed = tokens.copy()
    changed[:, 11] = (changed[:, 11] + 1) % TINY.vocab_size
    before, after = (np.asarray(compiled[2](x)) for x in (tokens, changed))
    np.testing.assert_array_equal(before[:, :11], after[:, :11])
    assert (np.abs(before[:, 11:] - after[:, 11:]) > 1e-6).all()


def test_the_trunks_predictions_count(prm, compiled):
    """Its prediction of each token reaches the layers, not its hidden states alone."""
    if prm.layers is None:
        return  # a head on the trunk reads nothing else
    tokens = np.random.default_rng(2).integers(0, TINY.vocab_size, (B * N, P + TOTAL))
    blind = nnx.clone(prm)
    blind.enter_clues[...] = jnp.zeros_like(blind.enter_clues[...])
    seeing, without = (np.asarray(compiled[2](tokens, of)) for of in (prm, blind))
    assert np.abs(seeing - without).max() > 0.01


def test_saved_and_loaded_it_is_the_same(prm, compiled, tmp_path: Path):
    save_prm(tmp_path / "prm", prm, {"command": "ttc train"})
    loaded = load_prm(tmp_path / "prm")
    assert loaded.config == prm.config
    saved, found = parameters.named(prm), parameters.named(loaded)
    assert saved.keys() == found.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(value, found[name], name)


def test_an_orm_scores_whole_answers(tmp_path: Path):
    """Its folder says so, and those written before there were ORMs hold PRMs."""
    prm = tiny_prm(layered=False)
    config = dataclasses.replace(prm.config, every_step=False)
    orm = ProcessRewardModel(config, rngs=nnx.Rngs(0))
    save_prm(tmp_path / "orm", orm, {})
    assert not load_prm(tmp_path / "orm").spec.every_step
    assert prm.spec.every_step
    old = {k: v for k, v in prm.config.to_json().items() if k != "every_step"}
    assert PRMConfig.from_json(old) == prm.config


def test_a_generator_is_no_prm(tmp_path: Path):
    save_model(tmp_path / "generator", tiny_generator(), tokenizer=None, metadata={})
    with pytest.raises(UserError, match="holds a generator, not a prm"):
        load_prm(tmp_path / "generator")


def test_dropout_spares_a_trunk_that_is_not_taught(prm):
    dropped = []

    class Spy(TrainMode):
        def drop(self, x: jax.Array, place: int) -> jax.Array:
            dropped.append(x.shape)
            return x

    tokens = np.zeros((1, 4), np.int32)
    mode = Spy(jax.random.key(0), 0.1)
    jax.eval_shape(lambda: prm(tokens, np.ones(1, np.int32), mode))
    taught = prm.config.trunk if prm.layers is None else prm.config.layers
    assert dropped == [(1, 4, taught.width)] * 2 * taught.depth
