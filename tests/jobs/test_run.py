"""The job `run`: sampling, scoring, grading and the report, also after an interruption."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed, configure
from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.files import read_json
from ttc_jax.jobs import run
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.results.chains import summarise_chains
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import summarise
from ttc_jax.search.strategies import make_strategy
from ttc_jax.tasks.countdown import Countdown

N, QUESTIONS = 4, 12
FILES = {"summary.json", "timing.json", "config.json", "inputs.json", "prompts.txt", "results"} | {
    f"accuracy.{kind}" for kind in ("png", "svg", "csv")
}


@pytest.fixture(scope="module")
def config(trained_generator: Path, trained_prm: Path) -> ConfigDict:
    return configure(
        "best_of_n",
        task__size=QUESTIONS,
        generator__path=trained_generator / "model",
        verifier__path=trained_prm / "model",
        sampling__n=N,
        sampling__max_new_tokens=40,
        execution__rows=5 * N,
        search__trees=3,
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory) -> Path:
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("run")
    run.main(config, workdir)
    return workdir


@pytest.mark.parametrize(("data", "questions", "batch"), [(1, 3, 3), (4, 6, 8), (1, 12, 8)])
def test_a_batch_has_no_slots_that_questions_never_need(config, data, questions, batch):
    config = changed(config, execution__mesh__data=data, execution__rows=8 * N)
    strategy = make_strategy("best_of_n")
    search = build.recorder(config, Countdown(), strategy, questions=questions).search
    assert search.execution.batch == batch


def test_records_hold_every_answer_graded_and_scored(finished: Path, config):
    tokenizer = load_tokenizer(config.generator.path)
    questions = {q.id: q for q in Countdown(size=QUESTIONS).questions("test")}
    records = ResultsStore(finished).read()
    assert {record.question for record in records} == set(questions)
    for record in records:
        assert len(record.candidates) == record.ledger.generations == N
        question = questions[record.question]
        verdicts = Countdown().judge(question, [c.text for c in record.candidates])
        for candidate, verdict in zip(record.candidates, verdicts, strict=True):
            assert (candidate.answer, candidate.correct) == (verdict.answer, verdict.correct)
            assert candidate.text == tokenizer.decode(candidate.tokens)
            assert candidate.finished == (candidate.tokens[-1] == tokenizer.eos_ids[0])
            assert candidate.finished or len(candidate.tokens) == 40
            steps = candidate.text.removesuffix("\n").count("\n") + 1
            assert len(candidate.step_scores) == steps
            assert all(0 < score < 1 for score in candidate.step_scores)
    texts = [candidate.text for record in records for candidate in record.candidates]
    assert len(set(texts)) > len(texts) / 2
    assert sum(c.answer is not None for r in records for c in r.candidates) > 10


def test_the_first_questions_keep_their_trees(finished: Path):
    first = [question.id for question in Countdown(size=QUESTIONS).questions("test")[:3]]
    for record in ResultsStore(finished).read():
        assert bool(record.tree) == (record.question in first)
        ends = {node.candidate for node in record.tree} - {None}
        assert len(ends) == (N if record.tree else 0)
        scores = [node.score for node in record.tree if node.score is not None]
        told = [score for candidate in record.candidates for score in candidate.step_scores]
        assert scores == (told if record.tree else [])


def test_summary_and_figures(finished: Path, config):
    assert {path.name for path in finished.iterdir()} == FILES
    summary = read_json(finished / "summary.json")
    assert summary["questions"] == QUESTIONS
    assert set(summary["accuracy"]) == {"majority", "best_of_n", "best_of_n_weighted", "pass"}
    for curve in summary["accuracy"].values():
        assert list(curve) == ["1", "2", "4"]
    assert summary["ledger"]["generations"] == N * QUESTIONS
    assert summary["config"]["sampling"]["n"] == N
    assert summary == summarise(ResultsStore(finished).read(), summary["config"])
    assert all((finished / name).stat().st_size > 0 for name in FILES)


def test_a_second_run_samples_nothing_and_writes_the_same(finished, config, monkeypatch):
    before = (finished / "summary.json").read_bytes()
    monkeypatch.setattr(build, "recorder", lambda *_: pytest.fail("nothing is left to sample"))
    run.main(config, finished)
    assert (finished / "summary.json").read_bytes() == before


def test_an_interrupted_run_ends_as_if_it_had_not_been(finished, config, tmp_path, monkeypatch):
    """With some records stored, and the last one torn by the interruption."""
    stored = []
    append = ResultsStore.append

    def interrupted(store: ResultsStore, records) -> None:
        append(store, records)
        stored.append(records)
        if len(stored) == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultsStore, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.main(config, tmp_path)
    assert not (tmp_path / "summary.json").exists()
    shard = tmp_path / "results" / "00000.jsonl"
    lines = shard.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    shard.write_bytes(b"".join(lines[:7]) + lines[7][:100])
    run.main(config, tmp_path)
    after = shard.read_bytes().splitlines(keepends=True)
    assert after[:7] == lines[:7]
    assert len(after) == QUESTIONS  # none was sampled twice
    assert (tmp_path / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()


def test_over_a_mesh_the_records_are_the_same(config, finished, tmp_path):
    rows = 2 * config.execution.rows  # of two shards
    over = changed(config, execution__mesh={"data": 2, "model": 1}, execution__rows=rows)
    run.main(over, tmp_path)
    expected = {record.question: record for record in ResultsStore(finished).read()}
    records = ResultsStore(tmp_path).read()
    assert len(records) == QUESTIONS
    for record in records:
        assert record.candidates == expected[record.question].candidates
        assert record.ledger == expected[record.question].ledger
    with pytest.raises(UserError, match="mesh data=9 × model=1 needs 9 devices; there are 8"):
        run.main(changed(config, execution__mesh={"data": 9, "model": 1}), tmp_path / "other")


def test_a_search_is_reported_at_its_own_budget_alone(config, tmp_path):
    beam = changed(config, search__strategy="beam", search__options={"width": 2}, limit=4)
    run.main(beam, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert all(list(curve) == [str(N)] for curve in summary["accuracy"].values())
    records = ResultsStore(tmp_path).read()
    assert {record.key[1:] for record in records} == {("beam", N, 0)}
    assert all(len(c.step_scores) > 0 for record in records for c in record.candidates)
    before = (tmp_path / "summary.json").read_bytes()
    run.main(changed(beam, execution__refill=False, execution__segment=5), tmp_path)  # same workdir
    assert (tmp_path / "summary.json").read_bytes().count(b"false") > before.count(b"false")


def test_chains_of_revisions_are_reported_by_position(config, tmp_path):
    revised = changed(config, search__revisions=3, sampling__n=2, limit=4)
    run.main(revised, tmp_path)
    records = ResultsStore(tmp_path).read()
    assert [record.sequential for record in records] == [3] * 4
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["chains"] == summarise_chains(records)
    assert len(summary["chains"]["pass_at_1_by_position"]) == 3
    assert all(list(curve) == ["6"] for curve in summary["accuracy"].values())
    assert (tmp_path / "chains.png").stat().st_size > 0
    last = summary["accuracy"]["best_of_n"]["6"]
    run.main(changed(revised, selection__aggregation="min"), tmp_path)  # the same answers
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["config"]["selection"]["aggregation"] == "min"
    assert summary["accuracy"]["best_of_n"]["6"].keys() == last.keys()
    assert ResultsStore(tmp_path).read() == records


def test_without_a_verifier_no_rule_reads_scores(finished, config, tmp_path):
    run.main(changed(config, verifier__path="", limit=3), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["accuracy"]) == {"majority", "pass"}
    assert summary["questions"] == 3
    assert summary["ledger"]["verifier_flops"] == 0
    others = {record.question: record for record in ResultsStore(finished).read()}
    for record in ResultsStore(tmp_path).read():
        for mine, theirs in zip(record.candidates, others[record.question].candidates, strict=True):
            assert mine.tokens == theirs.tokens
            assert mine.step_scores == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling__n": 0}, "config.sampling.n=0: must be at least 1"),
        ({"sampling__top_p": 0.0}, "sampling.top_p=0.0: must be above 0"),
        ({"limit": -1}, "config.limit=-1: must be at least 0"),
        ({"split": "dev"}, "no split 'dev'"),
        ({"selection__aggregation": "mean"}, "must be one of last, min, product"),
        ({"generator__dtype": "float16"}, "must be one of float32, bfloat16"),
        ({"generator__weights": "int4"}, "config.generator.weights=int4: must be one of '', int8"),
        ({"verifier__cache": "fp8"}, "config.verifier.cache=fp8: must be one of '', int8"),
        ({"generator__path": "embedded:nobody"}, "embedded:nobody: no such checkpoint"),
        ({"sampling__max_new_tokens": 508}, "do not fit the generator's context of 512"),
        ({"prompt__template": "?"}, "lacks {question}"),
        (
            {"search__strategy": "bean"},
            "'bean' is unknown; choose best_of_n, beam",
        ),
        ({"search__lookahead": -1}, "search.lookahead=-1: must be at least 0"),
        (
            {"search__strategy": "beam", "search__options": {"width": 3}},
            "does not divide sampling.n=4",
        ),
        ({"search__strategy": "beam", "search__options": {"wide": 3}}, "beam has no such option"),
        ({"search__strategy": "beam", "verifier__path": ""}, "needs a verifier"),
        ({"verifier__path": "confidence:hope"}, "the sign 'hope' is unknown"),
    ],
)
def test_bad_fields_are_named_and_leave_the_workdir_free(config, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        run.main(changed(config, **fields), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_generator_is_no_verifier(config, tmp_path):
    with pytest.raises(UserError, match="holds a generator; a verifier is a prm or a probe"):
        run.main(changed(config, verifier__path=config.generator.path), tmp_path)


def test_a_workdir_belongs_to_one_config(finished, config):
    with pytest.raises(UserError, match=r"belongs to another config: seed \(there 0, now 1\)"):
        run.main(changed(config, seed=1), finished)
