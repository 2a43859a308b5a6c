"""The verifier that a path names."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.oracle import tiny_generator
from tests.search.toy import make_plan, make_search, random_probe, run
from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.models.checkpoints import describe, save_model
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.flipped import Flipped
from ttc_jax.verifiers.load import load_verifier, outline_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel, save_prm
from ttc_jax.verifiers.probe import HiddenStateProbe, load_probe, save_probe
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec


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


class Constant(Verifier):
    """A verifier of one's own, which asks for one of the options of storage."""

    def __init__(self, dtype: jax.typing.DTypeLike):
        self.dtype = jnp.dtype(dtype)

    @property
    def spec(self) -> VerifierSpec:
        return VerifierSpec()

    def score_steps(self, tokens: Any, count: Any, state: Any, decode: Any) -> Any:
        return jnp.full(tokens.shape, 0.5, self.dtype), state


class Speechless(Verifier):
    @property
    def spec(self) -> Any:
        return "none"


class Stranger: ...


def test_a_verifier_of_ones_own_by_its_class():
    for load in (load_verifier, outline_verifier):
        found = load(f"{__name__}:Constant", dtype="bfloat16")
        assert isinstance(found, Constant)
        assert found.dtype == jnp.bfloat16
        with pytest.raises(UserError, match="only scores of a PRM or an ORM can be flipped"):
            load(f"flipped:0.2:{__name__}:Constant")  # found, and of another kind
        for name, said in (
            (f"{__name__}:Stranger", "is no subclass of"),
            (f"{__name__}:Speechless", "its spec is no VerifierSpec"),
            (f"{__name__}:Missing", "cannot be imported"),
            ("nowhere.to:Find", "cannot be imported"),
        ):
            with pytest.raises(UserError, match=f"verifier.path.*{said}"):
                load(name)


def test_one_searches():
    search = make_search(tiny_generator(), load_verifier(f"{__name__}:Constant"), make_plan())
    [found] = run(search, [([1, 2, 3], 0)])
    assert all(score == 0.5 for n in range(4) for score in found.scores_of(n))
