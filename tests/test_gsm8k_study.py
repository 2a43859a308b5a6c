"""The studies of gsm8k.py and study.py, with a generator too small to know anything."""

import json
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers

from tests.models.small import CONFIGS, random_tensors, write_folder
from tests.models.test_tokenizers import trained
from ttc_jax.config import load_config
from ttc_jax.hashing import name_of
from ttc_jax.jobs import run, sweep, train
from ttc_jax.models.checkpoints import describe
from ttc_jax.results.store import ResultsStore

GSM8K = Path(__file__).parents[1] / "configs" / "gsm8k.py"
STAGES = ("samples", "probe", "search", "policy", "report")


def rows(path: Path, count: int) -> Path:
    texts = [{"question": f"What is {i} + {i}?", "answer": f"#### {2 * i}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return path


def ids(split: str, count: int) -> set[str]:
    """Of the first questions of `rows`."""
    return {f"gsm8k/{split}/{name_of(f'What is {i} + {i}?', 6)}" for i in range(count)}


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    tokenizer = trained(pre_tokenizers.Digits(individual_digits=True), words=True)
    fields = {**CONFIGS["qwen2"], "vocab_size": len(tokenizer), "max_position_embeddings": 1024}
    fields |= {"hidden_size": 28, "intermediate_size": 16, "num_hidden_layers": 1}
    fields["use_sliding_window"] = False
    tensors = random_tensors(fields)
    digits = tokenizer.convert_tokens_to_ids([*"0123456789"])
    tensors["model.embed_tokens.weight"][digits] *= 5  # so that answers hold numbers
    tokenizer.save_pretrained(write_folder(tmp_path / "model", fields, tensors))
    changes = {
        "generator.path": tmp_path / "model",
        "task.path": rows(tmp_path / "test.jsonl", 4),
        "task.train_path": rows(tmp_path / "train.jsonl", 8),
        "limit": 3,
        "stage.samples.limit": 6,
        "stage.samples.sampling.n": 2,
        "stage.samples.sampling.max_new_tokens": 16,
        "stage.probe.data.held_out": 0.4,
        "stage.probe.train.lengths": 1024,
        "stage.search.sampling.max_new_tokens": 16,
        "stage.search.search.max_step_tokens": 8,
        "stage.search.search.trees": 1,
        "stage.search.sweep.budgets": 4,
        "stage.search.sweep.difficulty.samples": 2,
        "stage.policy.policy.budgets": 4,
        "stage.policy.policy.bins": 1,
        "stage.policy.policy.samples": 2,
        "stage.policy.policy.resamples": 20,
    }
    return [f"--config.{name}={value}" for name, value in changes.items()]


def test_every_stage_runs_and_none_twice(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(f"{GSM8K}:qwen2_5_coder", overrides)
    with config.unlocked():  # worked examples would be most of the work
        for stage in ("samples", "probe", "search"):
            config.stage[stage].prompt.shots = config.stage[stage].prompt.shots[:1]
    workdir = tmp_path / "study"
    run.main(config, workdir)
    assert all((workdir / stage / "done.json").is_file() for stage in STAGES)
    assert {r.question for r in ResultsStore(workdir / "samples").read()} == ids("train", 6)
    found = describe(workdir / "probe" / "model", "probe")
    assert found.config == {"width": 28}
    records = ResultsStore(workdir / "search").read()
    assert {r.question for r in records} == ids("test", 3)
    assert {r.strategy for r in records} == {"best_of_n", "beam_4", "difficulty"}
    assert all(c.step_scores for r in records for c in r.candidates)  # the probe's
    assert "best_of_n" in json.loads((workdir / "policy" / "summary.json").read_text())["accuracy"]
    assert (workdir / "report" / "report.html").stat().st_size > 0

    for job in (sweep, train):
        monkeypatch.setattr(job, "main", lambda *_: pytest.fail("it was done"))
    run.main(config, workdir)


def test_without_a_verifier_answers_vote(overrides: list[str], tmp_path: Path) -> None:
    given = [x for x in overrides if "path" in x or "limit=3" in x]
    given += ["--config.sampling.max_new_tokens=16", "--config.budgets=1,2"]
    given += ["--config.stage.search.sweep.difficulty.samples=2", "--config.prompt.chat=false"]
    workdir = tmp_path / "study"
    run.main(load_config("study:small_vote", given), workdir)
    assert {r.question for r in ResultsStore(workdir / "search").read()} == ids("test", 3)
    assert (workdir / "report" / "report.html").stat().st_size > 0
    assert not (workdir / "policy").exists()
