"""The table of random streams: no two purposes draw with one key."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ttc_jax.models.train_mode import TrainMode
from ttc_jax.sampling import keys

SEED, N, LONGEST, ROUNDS, ANSWERS, PARTS = 5, 4, 6, 5, 3, 3
IDS = jnp.array([0, 1, 2, 2**32 - 1], jnp.uint32)  # small ones equal steps of a training


def tokens(candidates: jax.Array) -> jax.Array:
    """The keys of all tokens of an answer of each row, [T, B, N]."""
    at = jnp.arange(LONGEST)[:, None, None]
    at = jnp.broadcast_to(at, (LONGEST, *candidates.shape))
    return keys.token_keys(jnp.broadcast_to(candidates, at.shape), at)


def dropout(step: int) -> list[jax.Array]:
    """The keys of a training step's dropout, by part of the batch, layer and place."""
    mode = TrainMode(keys.training_key(SEED, jnp.array(step)))
    places = np.ndindex(PARTS, PARTS, PARTS)
    return [mode.at(part).at(layer).at(place).key for part, layer, place in places]


def drawn() -> dict[str, list[jax.Array]]:
    """The keys that anything is drawn with, by purpose."""
    candidates, questions = keys.candidate_keys(SEED, IDS, N), keys.question_keys(SEED, IDS)
    rngs = nnx.Rngs(SEED)

    def each(number: int) -> jax.Array:
        return jnp.full(IDS.shape, number)

    return {
        "tokens": [tokens(candidates)],
        "selections": [keys.selection_keys(questions, each(r)) for r in range(ROUNDS)],
        "copies": [
            tokens(keys.copy_keys(candidates, LONGEST, each(r))) for r in range(1, ROUNDS + 1)
        ],
        "answers": [
            tokens(keys.answer_keys(candidates, LONGEST, ROUNDS, each(done)))
            for done in range(1, ANSWERS)
        ],
        "rollouts": [
            tokens(
                keys.rollout_keys(
                    candidates,
                    LONGEST,
                    jnp.full(candidates.shape, length),
                    jnp.full(candidates.shape, number),
                )
            )
            for length in range(1, LONGEST + 1)
            for number in range(N)
        ],
        "dropout": [key for step in range(3) for key in dropout(step)],
        "weights": [rngs() for _ in range(9)],
    }


def test_no_two_purposes_draw_with_one_key():
    rows = {
        purpose: np.concatenate([np.asarray(jax.random.key_data(x)).reshape(-1, 2) for x in found])
        for purpose, found in drawn().items()
    }
    owner: dict[tuple[int, ...], str] = {}
    for purpose, data in rows.items():
        for row in map(tuple, data.tolist()):
            assert row not in owner, f"{purpose} and {owner[row]} share a key"
            owner[row] = purpose
    assert len(owner) == sum(map(len, rows.values())) > 1000


def test_a_seed_is_data_and_gives_the_keys_of_its_number():
    for seed in (0, 3, 2**31, 2**32 - 1):
        expected = [jax.random.fold_in(jax.random.key(seed), i) for i in IDS]
        seeds = jnp.full(IDS.shape, seed, jnp.uint32)
        for found in (keys.question_keys(seed, IDS), jax.jit(keys.question_keys)(seeds, IDS)):
            assert (found == jnp.stack(expected)).all()
