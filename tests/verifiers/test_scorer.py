"""Scores of given solutions: in batches and one by one, against one pass over whole texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.sampling.oracle import TINY, tiny_generator
from tests.search.toy import random_probe
from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.models.transformer import Transformer
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.given import Shown
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.probe import HiddenStateProbe
from ttc_jax.verifiers.scorer import Scorer
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import Verifier

WIDTH = 128  # tokens of the longest text, of which a step is longer than is read at a time
MARKED = StepFormat((3, 5), -1, ((7, 8),))


def solutions() -> list[Shown]:
    rng = np.random.default_rng(0)
    found = []
    for lengths in [(4, 9, 1), (10,), (12, 3, 2, 2, 9), (70, 5), (1, 9)]:
        prompt, *steps = (rng.integers(10, 37, n).tolist() for n in (5, *lengths))
        found.append(Shown(prompt, steps, [len(step) - 1 for step in steps]))
    found[2].steps[1][0] = 7  # which a format swaps
    return found


def flat(shown: Shown, form: StepFormat | None = None) -> tuple[list[int], list[int]]:
    """All tokens, and where each step's score stands among them."""
    form, tokens, read = form or StepFormat(), list(shown.prompt), []
    swaps = dict(form.swaps)
    for step in shown.steps:
        tokens += [*(swaps.get(token, token) for token in step), *form.markers]
        read.append(len(tokens) - 1 + form.offset)
    return tokens, read


def by_prm(prm: ProcessRewardModel, rows: Any, lengths: Any) -> Any:
    return jax.nn.sigmoid(prm(rows, lengths))


def by_probe(models: tuple[Transformer, HiddenStateProbe], rows: Any, _: Any) -> Any:
    generator, probe = models
    scores = jax.nn.sigmoid(probe(generator(rows)))
    return jnp.roll(scores, 1, 1)  # a token came from the state before it


def by_entropy(models: tuple[Transformer, Verifier], rows: Any, lengths: Any) -> Any:
    """The mean entropy of all that an answer's tokens were drawn from."""
    log_probs = jax.nn.log_softmax(models[0].logits(models[0](rows)))
    entropy = jnp.roll(-(jnp.exp(log_probs) * log_probs).sum(-1), 1, 1)
    place = jnp.arange(rows.shape[1])[None] - lengths[:, None]
    total = jnp.cumsum(jnp.where(place >= 0, entropy, 0.0), 1)
    return jnp.exp(-total / jnp.maximum(place + 1, 1).astype(jnp.float32))


def orm() -> ProcessRewardModel:
    """One that scores a chunk's end alone, and is shown marks and swapped tokens."""
    found = tiny_prm(layered=False)
    found.config = dataclasses.replace(found.config, every_step=False, step_format=MARKED)
    return found


CASES: dict[str, tuple[Callable[[], Verifier], Callable[..., Any], StepFormat | None]] = {
    "prm": (tiny_prm, by_prm, None),
    "orm": (orm, by_prm, MARKED),
    "probe": (random_probe, by_probe, None),
    "entropy": (lambda: Confidence("entropy"), by_entropy, None),
}


@pytest.mark.parametrize("name", CASES)
def test_in_batches_one_by_one_and_in_one_pass(name: str):
    make, score, form = CASES[name]
    verifier, given = make(), solutions()
    generator = tiny_generator() if score is not by_prm else None
    scorer = Scorer(verifier, generator, batch=3)
    for shown in given:
        scorer.check(shown)
    found = dict(scorer.run(given))
    assert sorted(found) == list(range(len(given)))
    # What else is in a batch does not change a bit.
    for index in (1, 3):
        assert dict(scorer.run(given[index : index + 1])) == {0: found[index]}
    texts = [flat(shown, form) for shown in given]
    rows = np.zeros((len(given), WIDTH), np.int32)
    for row, (tokens, _) in zip(rows, texts, strict=True):
        row[: len(tokens)] = tokens
    graph, weights = nnx.split(verifier if generator is None else (generator, verifier))
    lengths = jnp.array([len(shown.prompt) for shown in given])
    plain = jax.jit(lambda weights: score(nnx.merge(graph, weights), jnp.asarray(rows), lengths))
    for index, row in enumerate(np.asarray(plain(weights))):
        np.testing.assert_allclose(found[index], row[texts[index][1]], atol=3e-6)
    if name == "probe":  # the quickest to compile
        alone = dict(Scorer(verifier, generator, batch=1).run(given))
        for index, scores in found.items():
            np.testing.assert_allclose(alone[index], scores, atol=3e-6)


def test_what_does_not_fit_is_refused():
    wide = HiddenStateProbe(TINY.width + 1)
    with pytest.raises(UserError, match="reads what the generator finds of a text; name one"):
        Scorer(random_probe())
    with pytest.raises(UserError, match="hidden states of width 17; the generator's have 16"):
        Scorer(wide, tiny_generator())
    scorer = Scorer(tiny_prm(layered=False))
    with pytest.raises(UserError, match="of 257 tokens do not fit the verifier's context of 256"):
        scorer.check(Shown([1] * 200, [[1] * 57], [56]))
    with pytest.raises(UserError, match="37"):
        scorer.check(Shown([1], [[37]], [0]))
    with pytest.raises(UserError, match="one of its steps has no token"):
        scorer.check(Shown([1], [[]], [0]))


def test_what_it_costs_is_what_is_read():
    prm, shown = orm(), solutions()[0]
    cost = Scorer(prm).ledger(shown)
    assert cost.verifier_tokens == 5 + 14 + 3 * len(MARKED.markers)
    assert cost.verifier_flops == prm.flops(0, cost.verifier_tokens)
    assert cost.prefill_tokens == 0
    cost = Scorer(random_probe(), tiny_generator()).ledger(shown)
    assert (cost.prefill_tokens, cost.verifier_tokens) == (18, 0)
    assert cost.generator_flops > 0
