"""Work goes on only with the config and with the inputs that it began with, known by content."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import replace_recorder
from ttc_jax import hashing
from ttc_jax.compute.ledger import Ledger
from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments import inputs
from ttc_jax.experiments.workdir import Claim
from ttc_jax.jobs import collect, run, sweep
from ttc_jax.models import hub
from ttc_jax.results.store import Candidate, Record, ResultsStore
from ttc_jax.tasks.math import Math
from ttc_jax.tasks.task import Question
from ttc_jax.training.checkpoints import Checkpoints, Progress

MATH = Path(__file__).parents[2] / "configs" / "math.py"
ROWS = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in (1, 2, 3)]


@dataclasses.dataclass(frozen=True)
class Answers:
    """Stands for a search or a collector: one wrong answer a question, and no model."""

    strategy: str = "best_of_n"
    trees: frozenset[str] = frozenset()
    budget: int = 1
    seed: int = 0
    tokenizer: None = None

    def encode(self, questions: Sequence[Question]) -> Sequence[Question]:
        return questions

    def run(self, questions: Sequence[Question]) -> Iterator[Record]:
        for question in questions:
            one = Candidate((1,), "7", True, -1.0, (), "7", False, step_values=(0.0,))
            cost = Ledger(generations=1, decode_tokens=1)
            yield Record(
                question.id, self.strategy, self.budget, self.seed, (one,), cost, seconds=1.0
            )


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def recorder(config: ConfigDict, *_: object, **__: object) -> Answers:
        return Answers(budget=config.sampling.n, seed=config.seed)

    replace_recorder(monkeypatch, recorder)
    monkeypatch.setattr(collect, "build", lambda *_: Answers())
    monkeypatch.setattr(hub, "snapshot", lambda *_, **__: None)


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def model(folder: Path, content: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(content)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> ConfigDict:
    write(tmp_path / "rows.jsonl", ROWS)
    model(tmp_path / "generator")
    return load_config(
        f"{MATH}:qwen2_5",
        [
            f"--config.task.path={tmp_path}/rows.jsonl",
            f"--config.generator.path={tmp_path}/generator",
            "--config.verifier.path=",
            "--config.sampling.n=1",
            "--config.search.strategy=best_of_n",
        ],
    )


CHANGES: dict[str, Callable[[list], list]] = {
    "a row in front": lambda rows: [{"problem": "What is 9 + 9?", "answer": "18"}, *rows],
    "a row behind": lambda rows: [*rows, {"problem": "What is 9 + 9?", "answer": "18"}],
    "a row less": lambda rows: rows[1:],
    "another order": lambda rows: rows[::-1],
    "a corrected gold": lambda rows: [rows[0] | {"answer": "3"}, *rows[1:]],
    "another text": lambda rows: [rows[0] | {"problem": "What is 1 + 2?"}, *rows[1:]],
    "another solution": lambda rows: [rows[0] | {"solution": "?"}, *rows[1:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_another_task_file(config, tmp_path, change):
    path, workdir = tmp_path / "rows.jsonl", tmp_path / "w"
    run.main(config, workdir)
    before = {x: x.read_bytes() for x in workdir.rglob("*") if x.is_file()}
    write(path, CHANGES[change](ROWS))
    with pytest.raises(UserError) as caught:
        run.main(config, workdir)
    assert re.fullmatch(
        rf"--config\.task\.path={path} has changed since this workdir began \(was [0-9a-f]+…, now "
        rf"[0-9a-f]+…\): put it back, or use another --workdir than {workdir}",
        str(caught.value),
    )
    assert {x: x.read_bytes() for x in workdir.rglob("*") if x.is_file()} == before
    write(path, ROWS)
    run.main(config, workdir)
    assert (workdir / "summary.json").read_bytes() == before[workdir / "summary.json"]


@pytest.mark.parametrize("job", ["sweep", "collect"])
def test_nor_do_sweeps_and_collections(tmp_path, job):
    write(tmp_path / "rows.jsonl", ROWS)
    variant = {"sweep": "search", "collect": "rollouts"}[job]
    found = load_config(f"{MATH.with_name('countdown.py')}:{variant}")
    task = ConfigDict({"name": "math", "path": str(tmp_path / "rows.jsonl")})
    with found.unlocked():
        found.task, found.split, found.limit = task, "test", 0
    if job == "sweep":
        found.sweep.budgets, found.sweep.seeds, found.sweep.difficulty.samples = (16,), (0,), 0
    main = {"sweep": sweep.main, "collect": collect.main}[job]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "_report", lambda *_: None)
        main(found, tmp_path / "w")
        write(tmp_path / "rows.jsonl", ROWS[1:])
        with pytest.raises(UserError, match=r"task\.path=.* has changed since this workdir began"):
            main(found, tmp_path / "w")


def test_ids_come_from_the_text_and_not_from_the_row(tmp_path):
    def ids(rows: Sequence[object]) -> list[str]:
        return [q.id for q in Math(write(tmp_path / "rows.jsonl", rows)).questions("test")]

    one, two, three = ids(ROWS)
    assert re.fullmatch(r"math/test/[0-9a-f]{12}", one)
    assert ids(ROWS[::-1]) == [three, two, one]
    assert ids([{"problem": "new", "answer": "1"}, *ROWS])[1:] == [one, two, three]
    assert ids([ROWS[0] | {"answer": "3", "level": "5"}]) == [one]
    assert ids([ROWS[0], ROWS[1], ROWS[0], ROWS[0]]) == [one, two, f"{one}-2", f"{one}-3"]
    assert ids([ROWS[0] | {"unique_id": "x"}]) == ["math/x"]


def test_answers_to_questions_that_are_gone_are_not_counted(config, tmp_path):
    """As those of a version that took ids from the rows' numbers, whose records tell no digests."""
    one = Candidate((1,), "7", True, -1.0, (), "7", False)
    ResultsStore(tmp_path / "w").append(
        [Record("math/test/0", "best_of_n", 1, 0, (one,), Ledger(1, 1))]
    )
    with pytest.raises(UserError, match=r"w/results: holds answers to 'math/test/0', which is no"):
        run.main(config, tmp_path / "w")


@pytest.mark.parametrize("field", ["sampling.temperature", "sampling.max_new_tokens", "limit"])
@pytest.mark.parametrize("lost", [("config.json",), ("config.json", "inputs.json")])
def test_a_lost_config_lets_no_other_records_in(config, tmp_path, field, lost):
    workdir = tmp_path / "w"
    run.main(config, workdir)
    summary = (workdir / "summary.json").read_bytes()
    for name in lost:
        (workdir / name).unlink()
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict({field: 2})
    with pytest.raises(UserError, match=r"another config.*another --workdir"):
        run.main(other, workdir)
    assert not (workdir / "config.json").exists()
    run.main(config, workdir)  # the same config finds its records again
    assert (workdir / "summary.json").read_bytes() == summary


def test_nor_do_records_of_other_inputs_come_in_with_it(config, tmp_path):
    workdir = tmp_path / "w"
    run.main(config, workdir)
    for name in ("config.json", "inputs.json"):
        (workdir / name).unlink()
    write(tmp_path / "rows.jsonl", [ROWS[0] | {"answer": "3"}, *ROWS[1:]])
    with pytest.raises(UserError, match=r"00000\.jsonl:1: made with another content of task\.path"):
        run.main(config, workdir)


def test_records_of_two_configs_are_not_read_as_one(config, tmp_path):
    run.main(config, tmp_path / "a")
    config.seed = 7
    run.main(config, tmp_path / "b")
    shutil.copy(tmp_path / "b/results/00000.jsonl", tmp_path / "a/results/00001.jsonl")
    with pytest.raises(UserError, match=r"00001\.jsonl:1: made with another config than the rec"):
        ResultsStore(tmp_path / "a").read()


def test_checkpoints_of_another_config_are_refused(tmp_path):
    weights = {"w": jnp.zeros(3)}
    with Checkpoints(tmp_path, 0, {"config": "a", "data.path": "b"}) as checkpoints:
        checkpoints.save(Progress(1, 2, 3.0, 3.0), weights, weights)
    with (
        Checkpoints(tmp_path, 0, {"config": "a", "data.path": "c"}) as checkpoints,
        pytest.raises(UserError, match=rf"{tmp_path}/1: made with another content of data\.path"),
    ):
        checkpoints.latest(weights, weights)
    with Checkpoints(tmp_path, 0, {"config": "a", "start.path": "d"}) as checkpoints:
        assert checkpoints.latest(weights, weights)[0].step == 1


def file(path: Path) -> Path:
    path.write_text("one")
    return path


def own_code(path: Path) -> str:
    (path / "own_inputs.py").write_text("class Strategy: ...\n")
    return "own_inputs:Strategy"


def our_model(folder: Path) -> Path:
    (folder / "parameters").mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    file(folder / "parameters" / "d")
    return folder


def records(folder: Path) -> Path:
    (folder / "results").mkdir(parents=True)
    file(folder / "results" / "00000.jsonl")
    return folder


def policy(folder: Path) -> Path:
    folder.mkdir()
    file(folder / "policy.json")
    return folder


# A field, what it is set to (made in a folder), and what changes there under the same name.
INPUTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("task.path", lambda x: file(x / "rows.jsonl"), "rows.jsonl"),
    ("task.train_path", lambda x: file(x / "rows.jsonl"), "rows.jsonl"),
    ("task.pictures", lambda x: file(x / "pictures"), "pictures"),
    ("task.name", own_code, "own_inputs.py"),
    ("search.strategy", own_code, "own_inputs.py"),
    ("sweep.strategies.mine.strategy", own_code, "own_inputs.py"),
    ("generator.path", lambda x: model(x / "m"), "m/model.safetensors"),
    ("generator.path", lambda x: model(x / "m"), "m/config.json"),
    ("generator.path", lambda x: model(x / "m"), "m/tokenizer.json"),
    ("generator.path", lambda x: model(x / "m"), "m/chat_template.jinja"),
    ("generator.path", lambda x: our_model(x / "m"), "m/parameters/d"),
    ("generator.path", lambda x: file(x / "m.gguf"), "m.gguf"),
    ("tokenizer.path", lambda x: model(x / "m"), "m/tokenizer.json"),
    ("sweep.strategies.mine.generator", lambda x: model(x / "m"), "m/model.safetensors"),
    ("sweep.strategies.mine.verifier", lambda x: our_model(x / "m"), "m/model.json"),
    ("verifier.path", lambda x: our_model(x / "m"), "m/model.json"),
    ("verifier.path", lambda x: f"flipped:0.2:{our_model(x / 'm')}", "m/parameters/d"),
    ("verifier.path", lambda x: f"math_shepherd:{model(x / 'm')}", "m/model.safetensors"),
    ("verifier.path", lambda x: f"{file(x / 'f.json')}:{model(x / 'm')}", "f.json"),
    ("verifier.path", lambda x: f"{file(x / 'f.json')}:{model(x / 'm')}", "m/model.safetensors"),
    ("policy.path", lambda x: policy(x / "p"), "p/policy.json"),
    ("policy.path", lambda x: file(x / "mine.json"), "mine.json"),
    ("start.path", lambda x: our_model(x / "m"), "m/parameters/d"),
    ("data.path", lambda x: records(x / "d"), "d/results/00000.jsonl"),
    ("data.path", lambda x: records(x / "d"), "d/results/00001.jsonl"),
]


@pytest.mark.parametrize(("field", "make", "changed"), INPUTS)
def test_every_input_is_known_by_content(tmp_path, monkeypatch, field, make, changed):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_inputs", raising=False)
    value = str(make(tmp_path))
    config: dict = {}
    *path, name = field.split(".")
    section = config
    for part in path:
        section = section.setdefault(part, {})
    section[name] = value
    Claim(tmp_path / "w", ConfigDict(config)).take()
    Claim(tmp_path / "w", ConfigDict(config)).take()
    (tmp_path / changed).write_text("class Strategy: 'another'\n")
    with pytest.raises(UserError, match=rf"--config\.{field}=.* has changed since this workdir b"):
        Claim(tmp_path / "w", ConfigDict(config))


def test_a_model_of_the_hub_is_known_by_its_files(tmp_path, monkeypatch):
    here: list[Path] = []
    monkeypatch.setattr(hub, "snapshot", lambda *_, **__: here[0] if here else None)
    config = ConfigDict({"generator": {"path": "org/name"}})
    claim = Claim(tmp_path / "w", config)
    assert "generator.path" not in claim.digests
    here.append(model(tmp_path / "one"))  # it was fetched meanwhile
    claim.take()
    assert "generator.path" in claim.digests
    here[0] = model(tmp_path / "other", "other weights")
    with pytest.raises(UserError, match=r"generator\.path=org/name has changed"):
        Claim(tmp_path / "w", config)


def test_what_has_the_same_content_may_go_elsewhere_or_be_gone(tmp_path):
    def claim(path: Path) -> Claim:
        return Claim(tmp_path / "w", ConfigDict({"generator": {"path": str(path)}}))

    here = model(tmp_path / "here")
    claim(here).take()
    (here / "README.md").write_text("about it")  # which nothing reads
    os.utime(here / "model.safetensors", (1, 1))
    claim(here).take()
    there = here.rename(tmp_path / "there")
    claim(there).take()
    shutil.rmtree(there)
    claim(here)  # what is not there cannot be used: whoever loads it says so
    with pytest.raises(UserError, match=r"generator\.path \(there .*here', now .*other'\)"):
        claim(model(tmp_path / "other", "other weights"))


def test_a_workdir_of_an_older_version_goes_on(config, tmp_path):
    workdir = tmp_path / "w"
    run.main(config, workdir)
    (workdir / "inputs.json").unlink()
    path = workdir / "results/00000.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    older = [{k: v for k, v in x.items() if k not in ("crc32", "made_with")} for x in rows[:1]]
    write(path, older)
    run.main(config, workdir)
    assert len(ResultsStore(workdir).read()) == len(ROWS)
    assert json.loads((workdir / "inputs.json").read_text())["task.path"]


def test_a_large_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "_REMEMBERED", 0)
    monkeypatch.setattr(hashing, "_SETTLED", -1)
    path = file(tmp_path / "large")
    first = hashing.of_file(path)
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "_digest", lambda _: pytest.fail("it was read again"))
        assert hashing.of_file(path) == first
    about = path.stat()
    path.write_text("two")  # of the same size, and with its old time
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert hashing.of_file(path) != first


def test_a_stage_that_was_done_is_not_passed_with_another_input(tmp_path, config):
    stage = config.to_dict() | {"job": "run"}
    stages = ConfigDict({"stages": ("answers",), "stage": {"answers": stage}})
    run.main(stages, tmp_path / "w")
    write(tmp_path / "rows.jsonl", ROWS[::-1])
    with pytest.raises(UserError, match=r"--config\.stage\.answers\.task\.path=.* has changed"):
        run.main(stages, tmp_path / "w")


def test_only_fields_that_name_inputs_are_taken_for_such(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("test", "beam", "math", "last"):
        (tmp_path / name).mkdir()
    config = {
        "split": "test",
        "search": {"strategy": "beam"},
        "task": {"name": "math"},
        "selection": {"aggregation": "last"},
        "verifier": {"path": "confidence:entropy"},
    }
    assert inputs.named(ConfigDict(config)) == {}
