"""The verifier that a path names."""

from pathlib import Path

import numpy as np
import pytest

from tests.sampling.oracle import tiny_generator
from tests.search.toy import random_probe
from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.models.checkpoints import describe, save_model
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.flipped import Flipped
from ttc_jax.verifiers.load import load_verifier, outline_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel, save_prm
from ttc_jax.verifiers.probe import HiddenStateProbe, load_probe, save_probe


def test_a_probe_saved_and_loaded_is_the_same(tmp_path: Path):
    probe = random_probe()
    save_probe(tmp_path / "probe", probe, {"seed": 1})
    found = load_verifier(str(tmp_path / "probe"))
    assert isinstance(found, HiddenStateProbe)
    np.testing.assert_array_equal(found.weights[...], probe.weights[...])
    np.testing.assert_array_equal(found.bias[...], probe.bias[...])
    assert describe(tmp_path / "probe").metadata == {"seed": 1}


def test_the_folder_says_what_it_holds(tmp_path: Path):
    save_prm(tmp_path / "prm", tiny_prm(layered=False), {})
    assert isinstance(load_verifier(str(tmp_path / "prm")), ProcessRewardModel)
    assert isinstance(load_verifier("embedded:prm"), ProcessRewardModel)
    assert isinstance(load_verifier("confidence:entropy"), Confidence)
    assert load_verifier("") is None


def test_what_is_no_verifier_is_named(tmp_path: Path):
    save_model(tmp_path / "generator", tiny_generator(), tokenizer=None, metadata={})
    for load in (load_verifier, outline_verifier):
        with pytest.raises(UserError, match="holds a generator; a verifier is a prm or a probe"):
            load(str(tmp_path / "generator"))
    with pytest.raises(UserError, match="holds a generator, not a probe"):
        load_probe(tmp_path / "generator")
    with pytest.raises(UserError, match="the sign 'mood' is unknown"):
        load_verifier("confidence:mood")


def test_flipped_scores_of_another_verifier(tmp_path: Path):
    save_prm(tmp_path / "prm", tiny_prm(layered=False), {})
    found = load_verifier(f"flipped:0.2:{tmp_path / 'prm'}")
    assert isinstance(found, Flipped)
    assert found.share == 0.2
    for path in ("flipped:0.2", "flipped:0.2:", "flipped:few:embedded:prm", "flipped:embedded:prm"):
        for load in (load_verifier, outline_verifier):
            with pytest.raises(UserError, match="must be flipped:SHARE:PATH"):
                load(path)
