"""Records that are exported and read back give the same reports."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ml_collections import ConfigDict

from ttc_jax import cli
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.jobs import export
from ttc_jax.policy.difficulty import oracle, quantile_bins
from ttc_jax.results.credit import as_pool
from ttc_jax.results.export import write_samples
from ttc_jax.results.foreign import read_records, read_samples
from ttc_jax.results.sample_files import read_rows
from ttc_jax.results.selection import shares
from ttc_jax.results.store import Candidate, Node, Record, ResultsStore
from ttc_jax.results.summary import difficulty_samples
from ttc_jax.results.sweep_summary import summarise_sweep


def made(question: int, strategy: str, n: int, **about) -> Record:
    rng = np.random.default_rng([question, n, len(strategy)])
    candidates = tuple(
        Candidate(
            tokens=(7,) * int(rng.integers(1, 9)),
            text="a line\n\u2028",
            finished=bool(rng.random() < 0.8),
            log_prob=float(-rng.random()),
            step_scores=tuple(rng.random(2).tolist()),
            answer=None if answer == 4 else str(answer),
            correct=answer == question % 3,
            step_values=(0.5,),
            unboxed=answer == 1,
        )
        for answer in rng.integers(0, 5, n).tolist()
    )
    ledger = Ledger(generations=n, prefill_tokens=9, decode_tokens=50 + n, verifier_flops=10**15)
    return Record(f"q/{question}", strategy, n, 3, candidates, ledger, seconds=1.5, **about)


def records(questions: int = 6) -> list[Record]:
    ids, tree = range(questions), (Node(-1, 0, "a", 0.5, 0),)
    found = [made(q, "best_of_n", 8, level="hard", question_score=q / questions) for q in ids]
    found += [made(q, "beam", n, tree=tree) for q in ids for n in (4, 8)]
    return found + [made(q, "revisions", 4, sequential=2) for q in ids]


def told(record: Record) -> Record:
    """What an export holds of a record."""
    candidates = tuple(
        dataclasses.replace(x, tokens=(), token_count=len(x.tokens), step_values=())
        for x in record.candidates
    )
    return dataclasses.replace(record, candidates=candidates, seconds=0.0, tree=())


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    ResultsStore(folder).append(records())
    return folder


@pytest.mark.parametrize("name", ["samples.parquet", "samples.jsonl"])
def test_what_is_exported_comes_back(workdir, tmp_path, capsys, name):
    path = tmp_path / name
    export.main(ConfigDict(), workdir, output=str(path))
    assert f"144 samples of 6 questions: {path}" in capsys.readouterr().out
    back = read_records(path)
    assert back == [told(record) for record in records()]
    ours, theirs = (
        summarise_sweep(x, {}, [2, 4, 8], quantile_bins(oracle(difficulty_samples(x))), subsets=16)
        for x in (records(), back)
    )
    assert ours == theirs
    again = tmp_path / f"again{path.suffix}"
    export.main(ConfigDict(), path, output=str(again))
    assert read_records(again) == back


@pytest.mark.parametrize("rule", ["majority", "best_of_n", "best_of_n_weighted"])
def test_outcomes_give_the_same_summary_by_their_rule(tmp_path, rule):
    found = records(questions=40)
    ResultsStore(tmp_path).append(found)
    path = tmp_path / "outcomes.parquet"
    export.main(ConfigDict(), tmp_path, output=str(path), outcomes=rule)
    back = read_records(path)
    torn = {record.question for record in found if is_torn(record, rule)}
    assert len(torn) < 30
    ours, theirs = (
        summarise_sweep(x, {}, [2, 4, 8], quantile_bins(oracle(difficulty_samples(x))), rule)
        for x in ([r for r in some if r.question not in torn] for some in (found, back))
    )
    for part in ("accuracy", "bins", "ledger", "strategy_efficiency"):
        assert theirs[part] == ours[part]
    assert {len(x.candidates) for x in back if x.strategy == "beam"} == {1}
    assert {x.text for record in back for x in record.candidates} == {""}
    stored = sum(x.stat().st_size for x in (tmp_path / "results").iterdir())
    assert path.stat().st_size < stored / 5


def is_torn(record: Record, rule: str) -> bool:
    """Whether a search's rule holds a right and a wrong answer for equally good."""
    pool = as_pool(record)
    held = shares(rule, pool.answers, pool.scores, pool.sequential)
    return record.strategy == "beam" and len({*pool.correct[held > 0]}) > 1


def test_columns_are_those_of_the_format_and_nothing_repeats_in_vain(workdir, tmp_path):
    export.main(ConfigDict(), workdir)
    table = pq.read_table(workdir / "samples.parquet")
    assert table.num_rows == 144
    first = table.slice(0, 1).to_pylist()[0]
    assert first["tokens"] == len(records()[0].candidates[0].tokens)
    assert first["cost"]["decode_tokens"] == 58
    export.main(ConfigDict(), workdir, output=str(tmp_path / "s.jsonl"))
    row = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[48])
    assert "level" not in row
    assert set(row["cost"]) == {"generations", "prefill_tokens", "decode_tokens", "verifier_flops"}


def test_mistakes(workdir, tmp_path, capsys):
    with pytest.raises(UserError, match=r"samples\.csv: must be the name of a file that ends in"):
        export.main(ConfigDict(), workdir, output="samples.csv")
    with pytest.raises(UserError, match="holds no records; ttc run and ttc sweep write them"):
        export.main(ConfigDict(), tmp_path, output=str(tmp_path / "samples.jsonl"))
    with pytest.raises(UserError, match="--outcomes=best: must be one of majority, best_of_n, "):
        export.main(ConfigDict(), workdir, output=str(tmp_path / "s.jsonl"), outcomes="best")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"samples\.jsonl: .*; choose another --output"):
        export.main(ConfigDict(), workdir, output=str(tmp_path / "file" / "samples.jsonl"))
    for flag in ("--config=countdown", "--config.seed=1"):
        assert cli.main(["export", f"--workdir={workdir}", flag]) == 2
        assert f"{flag}: ttc export takes no config" in capsys.readouterr().err
    assert cli.main(["export", "--help"]) == 0
    usage = "ttc export [--output=…] [--outcomes=…] --workdir=DIR\n"
    assert usage in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cost": 3}, "cost is 3; it must be an object"),
        ({"cost": {"tokens": 3}}, "cost: "),
        ({"cost": {"decode_tokens": -3}}, "decode_tokens is -3"),
        ({"cost": {"decode_tokens": 0.5}}, "cost: "),
        ({"sequential": 0}, "sequential is 0; it must be at least 1"),
        ({"sequential": 2}, "samples, which are no chains of 2"),
        ({"question_score": "high"}, "question_score is 'high'"),
        ({"finished": 1}, "finished is 1; it must be true or false"),
        ({"level": 5}, "level is 5"),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path, fields, message):
    row = {"question": "q", "answer": "1", "correct": True, "score": 0.5, "tokens": 1}
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(row | fields))
    with pytest.raises(UserError, match=r"samples\.jsonl:1: ") as caught:
        read_records(path)
    assert message in str(caught.value)
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row | {'level': 'hard'})}")
    with pytest.raises(UserError, match=r"samples\.jsonl:2: level, .* differs"):
        read_records(path)


ROW = {"question": "q", "answer": "1", "correct": True, "score": 0.5, "tokens": 310, "text": "one"}
LARGE = 2**63 - 1


@pytest.mark.parametrize("end", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "rows",
    [
        [ROW, ROW | {"answer": "2", "correct": False, "tokens": 9, "text": "two"}],
        [{"question": "q", "gold": "1", "score": 1, "tokens": 310, "text": r"so \boxed{1}"}],
        [ROW | {"tokens": 0, "log_prob": -1.5, "finished": False, "unboxed": True}],
        [ROW | {"level": "hard", "question_score": 0.1 + 0.2, "sequential": 2, "budget": 4}] * 2,
        [ROW | {"tokens": LARGE, "seed": -LARGE, "budget": LARGE}] * 3,
        [ROW | {"cost": {"generations": 1, "uncached_verifier_flops": 10**21 + 1}}],
        [ROW | {"cost": {"generator_flops": 10**38 - 1, "decode_tokens": LARGE}}],
        [ROW | {"cost": {"generator_flops": LARGE}}],
    ],
)
def test_what_was_read_elsewhere_is_exported_whole(tmp_path, rows, end):
    path, out = tmp_path / "samples.jsonl", tmp_path / f"out{end}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_samples(path)
    assert write_samples(out, read) == len(rows)
    assert read_samples(out) == read
    told = [fields for _, fields in read_rows(out)]
    for name in ("tokens", "text"):
        assert [fields[name] for fields in told] == [row[name] for row in rows]
    workdir = tmp_path / "workdir"
    ResultsStore(workdir).append(read)
    assert read_records(workdir) == read
    assert {x.text for record in read_samples(out, texts=False) for x in record.candidates} == {""}


def test_costs_are_decimal_numbers_only_where_they_must(tmp_path):
    for cost, kind in ((LARGE, "int64"), (LARGE + 1, "decimal128(38, 0)")):
        ledger = Ledger(generations=8, generator_flops=cost)
        record = dataclasses.replace(made(0, "beam", 8), ledger=ledger)
        write_samples(tmp_path / "s.parquet", [made(1, "beam", 8), record])
        costs = pq.read_schema(tmp_path / "s.parquet").field("cost").type
        assert {str(field.type) for field in costs} == {kind}
        assert read_samples(tmp_path / "s.parquet")[1].ledger == ledger


def test_a_number_that_parquet_cannot_hold_is_named(tmp_path):
    for fields in ({"seed": 2**70}, {"ledger": Ledger(generations=10**40)}):
        record = dataclasses.replace(made(0, "beam", 8), **fields)
        with pytest.raises(UserError, match=r"'q/0' .* too large for Parquet; choose an --output"):
            write_samples(tmp_path / "s.parquet", [record])
        assert not any(tmp_path.iterdir())
