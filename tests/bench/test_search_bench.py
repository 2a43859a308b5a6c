"""The search's benchmark runs, and both its contenders have the same weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.bench import models, search
from tests.parity.reference import reference_logits, torch_module
from ttc_jax.models.transformer import Transformer

pytestmark = pytest.mark.torch_parity


def test_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch_module()
    file = tmp_path / "bench.json"
    search.main(["--quick", f"--json={file}"])
    figures = json.loads(file.read_text())
    by_n = ("speedup", "speedup_per_token", "ours_seconds", "theirs_seconds")
    for name in (*by_n, "ours_tokens", "theirs_tokens"):
        assert figures[name].keys() == {"4"}
        assert all(0 < value < math.inf for value in figures[name].values())
    assert figures["seconds"]["by_n"].keys() == {"4"}
    assert figures["seconds"]["by_questions"].keys() == {"1", "2", "4"}
    assert all(x > 0 for by in figures["seconds"].values() for x in by.values())
    assert figures["useful_share"].keys() == figures["share_seconds"].keys()
    assert len(figures["useful_share"]) == 8
    assert all(0 < value <= 1 for value in figures["useful_share"].values())
    assert figures["settings"]["rounds"] == [2]
    assert "speed-up" in capsys.readouterr().out


def test_same_weights() -> None:
    torch_module()
    model = Transformer(models.TINY, rngs=nnx.Rngs(0))
    tokens = np.random.default_rng(0).integers(0, models.TINY.vocab_size, (2, 20)).astype(np.int32)
    theirs = reference_logits(models.torch_model(model, "float32"), tokens)
    np.testing.assert_allclose(model.logits(model(jnp.asarray(tokens))), theirs, atol=1e-4)
