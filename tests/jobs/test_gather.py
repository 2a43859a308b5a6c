"""The job `gather`: models in one folder, and what is known of them."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import COMMAND
from ttc_jax.errors import UserError
from ttc_jax.jobs import gather
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.verifiers.load import load_verifier


@pytest.fixture
def config(trained_generator: Path, trained_prm: Path, tmp_path: Path) -> ConfigDict:
    measured = {"pass_at_1": {"mean": 0.5, "low": 0.4, "high": 0.6}, "questions": 7}
    (tmp_path / "greedy").mkdir()
    (tmp_path / "greedy" / "summary.json").write_text(json.dumps(measured | {"ledger": {}}))
    return ConfigDict(
        {
            "models": {
                "small": str(trained_generator / "model"),
                "judge": str(trained_prm / "model"),
            },
            "measured": {"small": {"greedy": str(tmp_path / "greedy")}},
            "megabytes": 12.0,
        }
    )


def test_models_work_where_they_are_put_and_the_manifest_tells_of_them(config, tmp_path):
    gather.main(config, tmp_path / "out")
    gather.main(config, tmp_path / "out")  # again is the same
    folder = tmp_path / "out" / "models"
    generator = load_generator(folder / "small")
    assert load_tokenizer(folder / "small", generator.config.vocab_size).eos_ids
    assert load_verifier(str(folder / "judge")) is not None
    manifest = json.loads((folder / "manifest.json").read_text())
    files = [x for x in folder.rglob("*") if x.is_file() and x.name != "manifest.json"]
    assert manifest["bytes"] == sum(x.stat().st_size for x in files)
    small, judge = manifest["models"]["small"], manifest["models"]["judge"]
    assert (small["kind"], judge["kind"]) == ("sft", "prm")
    assert small["command"] == judge["command"] == " ".join(COMMAND)
    assert small["seed"] == 0
    assert small["tokens"] > 0
    assert small["train"]["steps"] == small["steps"]
    assert small["bytes"] > small["parameters"]
    assert 0 < judge["validation_calibration_error"] < 1
    assert small["measured"] == {
        "greedy": {"pass_at_1": {"mean": 0.5, "low": 0.4, "high": 0.6}, "questions": 7}
    }


def test_what_cannot_be_gathered_is_named(config, tmp_path):
    def refused(message: str, **changes) -> None:
        other = config.copy_and_resolve_references()
        with other.unlocked():
            other.update(changes)
        with pytest.raises(UserError, match=message):
            gather.main(other, tmp_path / "out")

    refused("model.json", models={"none": str(tmp_path)})
    refused(r"measured\.other: config\.models has no such", measured={"other": {}})
    refused("no summary.json", measured={"small": {"run": str(tmp_path)}})
    refused("more than megabytes=0.01", megabytes=0.01)
