"""The job `collect`: samples, rollouts, records and the report, also after an interruption."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed, configure
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.files import read_json
from ttc_jax.hosts import hosts as parallel_hosts
from ttc_jax.hosts.hosts import mine
from ttc_jax.jobs import collect
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import summarise_collection
from ttc_jax.tasks.countdown import Countdown

N, ENDS, QUESTIONS = 3, 2, 10


@pytest.fixture(scope="module")
def config(trained_generator: Path) -> ConfigDict:
    return configure(
        "rollouts",
        task__size=QUESTIONS,
        generator__path=trained_generator / "model",
        sampling__n=N,
        sampling__max_new_tokens=40,
        execution__rows=4 * N,
        rollouts__ends=ENDS,
        rollouts__rows_per_question=5,
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory) -> Path:
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("collect")
    collect.main(config, workdir)
    return workdir


def be_host(patch: pytest.MonkeyPatch, host: int, hosts: int) -> None:
    patch.setattr(parallel_hosts, "index", lambda: host)
    patch.setattr(parallel_hosts, "count", lambda: hosts)


def values(workdir: Path) -> dict[str, list]:
    return {
        record.question: [(c.tokens, c.step_values) for c in record.candidates]
        for record in ResultsStore(workdir).read()
    }


def test_records_hold_every_answer_with_its_step_values(finished: Path, config):
    tokenizer = load_tokenizer(config.generator.path)
    delimiter = int(tokenizer.containing("\n").argmax())
    questions = {q.id: q for q in Countdown(size=QUESTIONS, seed=1).questions("train")}
    records = ResultsStore(finished).read()
    assert {record.question for record in records} == set(questions)
    for record in records:
        prefixes = set()
        for candidate in record.candidates:
            [verdict] = Countdown().judge(questions[record.question], [candidate.text])
            assert (candidate.answer, candidate.correct) == (verdict.answer, verdict.correct)
            if candidate.answer is None:
                assert candidate.step_values == ()
                continue
            assert len(candidate.step_values) == candidate.text.removesuffix("\n").count("\n") + 1
            assert set(candidate.step_values) <= {0.0, 0.5, 1.0}  # of two rollouts
            assert candidate.step_values[-1] == candidate.correct
            ends = [i + 1 for i, token in enumerate(candidate.tokens) if token == delimiter]
            ends = ends[: len(candidate.step_values) - 1]
            prefixes |= {candidate.tokens[:end] for end in ends}
        assert record.key[1:] == ("rollouts", N + ENDS * len(prefixes), 0)
        assert record.ledger.generations == record.budget
    assert sum(len(c.step_values) for r in records for c in r.candidates) > QUESTIONS


def test_summary_and_table(finished: Path, config, capsys):
    names = {path.name for path in finished.iterdir()}
    reports = {"summary.json", "timing.json"}
    assert names == reports | {"config.json", "inputs.json", "prompts.txt", "results"}
    records = ResultsStore(finished).read()
    summary = read_json(finished / "summary.json")
    assert summary == summarise_collection(records[::-1], summary["config"], ENDS)
    assert summary["questions"] == QUESTIONS
    assert summary["candidates"]["count"] == N * QUESTIONS
    assert summary["rollouts"] == summary["prefixes"] * ENDS > 0
    assert summary["ledger"] == sum((record.ledger for record in records), Ledger()).to_dict()
    found = [c.step_values for record in records for c in record.candidates]
    for position, row in enumerate(summary["step_values"]):
        here = [x[position] for x in found if len(x) > position]
        assert row == {"count": len(here), "mean": pytest.approx(sum(here) / len(here), abs=1e-6)}
    assert max(map(len, found)) == len(summary["step_values"])
    collect.report(config, finished, ResultsStore(finished))
    printed = capsys.readouterr().out
    for text in (
        f"{QUESTIONS} questions, {N * QUESTIONS} samples",
        f"{summary['prefixes']} different prefixes, {summary['rollouts']} rollouts",
        f"{summary['ledger']['decode_tokens']:,} tokens generated",
        "tokens/s",
        f"{summary['step_values'][0]['mean']:.3f}",
    ):
        assert text in printed


def test_an_interrupted_run_ends_as_if_it_had_not_been(finished, config, tmp_path, monkeypatch):
    """With some records stored, and the last one torn by the interruption."""
    stored = []
    append = ResultsStore.append

    def interrupted(store: ResultsStore, records) -> None:
        append(store, records)
        stored.append(records)
        if len(stored) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultsStore, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            collect.main(config, tmp_path)
    shard = tmp_path / "results" / "00000.jsonl"
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(b"".join(lines[:5]) + lines[5][:100])
    collect.main(config, tmp_path)
    after = shard.read_bytes().splitlines(keepends=True)
    assert after[:5] == lines[:5]
    assert len(after) == QUESTIONS  # none was collected twice
    assert values(tmp_path) == values(finished)
    assert (tmp_path / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(collect, "build", lambda *_: pytest.fail("nothing is left to collect"))
        collect.main(config, tmp_path)
    assert shard.read_bytes().splitlines(keepends=True) == after


def test_hosts_share_the_questions_and_the_schedule_changes_nothing(
    finished, config, tmp_path, monkeypatch
):
    """Three hosts, one after the other, with other batches and rows; the first reports."""
    other = changed(config, rollouts__rows_per_question=3, execution__rows=2 * N)
    for host, here in ((1, config), (2, other), (0, other)):
        be_host(monkeypatch, host, 3)
        collect.main(here, tmp_path)
        assert (tmp_path / "summary.json").exists() == (host == 0)
    shards = [path.read_bytes() for path in sorted((tmp_path / "results").iterdir())]
    assert [shard.count(b"\n") for shard in shards] == [4, 3, 3]
    assert values(tmp_path) == values(finished)


@pytest.mark.parametrize("hosts", [1, 2, 3, 7])
def test_every_question_is_one_hosts(monkeypatch, hosts: int):
    shares = []
    for host in range(hosts):
        be_host(monkeypatch, host, hosts)
        shares.append(mine(range(5)))
    assert sorted(item for share in shares for item in share) == list(range(5))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling__n": 0}, "config.sampling.n=0: must be at least 1"),
        ({"rollouts__ends": 0}, "config.rollouts.ends=0: must be at least 1"),
        (
            {"rollouts__rows_per_question": 0},
            "config.rollouts.rows_per_question=0: must be at least 1",
        ),
        ({"sampling__temperature": -1.0}, "sampling.temperature=-1.0: must be at least 0"),
        ({"limit": -1}, "config.limit=-1: must be at least 0"),
        ({"split": "dev"}, "no split 'dev'"),
        ({"generator__dtype": "float16"}, "must be one of float32, bfloat16"),
        ({"generator__path": "embedded:nobody"}, "embedded:nobody: no such checkpoint"),
        (
            {"step_delimiter": "@"},
            "step_delimiter '@': no token or sequence of tokens of the model",
        ),
        ({"step_delimiter": ""}, "step_delimiter is empty; set it to the text that ends a step"),
        ({"sampling__max_new_tokens": 2000}, "train/1/.: a prompt of .* do not fit"),
        ({"prompt__template": "?"}, "lacks {question}"),
    ],
)
def test_bad_fields_are_named_and_leave_the_workdir_free(config, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        collect.main(changed(config, **fields), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_workdir_belongs_to_one_config(finished, config):
    with pytest.raises(UserError, match=r"another config: rollouts.ends \(there 2, now 4\)"):
        collect.main(changed(config, rollouts__ends=4), finished)
