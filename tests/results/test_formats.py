"""Samples as search-and-learn, lm-evaluation-harness and OpenAI's batches write them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ttc_jax.errors import UserError
from ttc_jax.results.accuracy_table import accuracy_table
from ttc_jax.results.foreign import read_records
from ttc_jax.results.store import Record

# As `to_json` of the data set that scripts/test_time_compute.py of search-and-learn saves.
SEARCH_AND_LEARN = {
    "problem": "What is $1+1$?",
    "solution": "It is $\\boxed{2}$.",
    "answer": "2",
    "subject": "Algebra",
    "level": 1,
    "unique_id": "test/algebra/1.json",
    "completions": ["$\\boxed{2}$", "Thus $\\boxed{2.0}$.", "$\\boxed{3}$", "I do not know"],
    "pred": "$\\boxed{3}$",
    "completion_tokens": [5, 6, 5, 4],
    "scores": [[0.9, 0.5], [0.4], [0.8, 0.7], [0.1]],
    "agg_scores": [0.5, 0.4, 0.7, 0.1],
    "pred_weighted@1": "\\boxed{2}",
    "pred_maj@4": "\\boxed{2}",
    "pred_naive@4": "\\boxed{3}",
}
# As the harness writes a line of gsm8k with `repeats: 2` for each of the task's two filters.
HARNESS = {
    "doc_id": 0,
    "doc": {"question": "Eggs?", "answer": "9 * 2 = <<9*2=18>>18.\n#### 18"},
    "target": "9 * 2 = <<9*2=18>>18.\n#### 18",
    "arguments": {"gen_args_0": {"arg_0": "Question: Eggs?\nAnswer:", "arg_1": {"until": ["\n"]}}},
    "resps": [["9 * 2 = 18\n#### 18", "That leaves 17 eggs"]],
    "filtered_resps": ["18"],
    "filter": "strict-match",
    "metrics": ["exact_match"],
    "doc_hash": "84",
    "prompt_hash": "3b",
    "target_hash": "22",
    "exact_match": 1.0,
}


def choice(index: int, text: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}


def response(request: str, *texts: str | None) -> dict[str, Any]:
    body = {
        "id": "chatcmpl-123",
        "object": "chat.completion",
        "created": 1711652795,
        "model": "gpt-4o-mini",
        "choices": [choice(i, text) for i, text in enumerate(texts)],
        "usage": {"prompt_tokens": 22, "completion_tokens": 30, "total_tokens": 52},
    }
    answer = {"status_code": 200, "request_id": "req_123", "body": body}
    return {"id": "batch_req_123", "custom_id": request, "response": answer, "error": None}


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdicts(record: Record) -> list[tuple[str | None, bool]]:
    return [(x.answer, x.correct) for x in record.candidates]


def test_search_and_learn(tmp_path):
    dvts = SEARCH_AND_LEARN | {"completion_tokens": -1}
    folder = tmp_path / "data" / "meta-llama"
    write(folder / "best_of_n_completions.jsonl", SEARCH_AND_LEARN)
    write(folder / "dvts_completions.jsonl", dvts)
    records = read_records(folder)
    keys = [("test/algebra/1.json", strategy, 4, 0) for strategy in ("best_of_n", "dvts")]
    assert [record.key for record in records] == keys
    for record in records:
        assert verdicts(record) == [("2", True), ("2", True), ("3", False), (None, False)]
        assert [x.step_scores for x in record.candidates] == [
            (0.9, 0.5),
            (0.4,),
            (0.8, 0.7),
            (0.1,),
        ]
    assert [record.ledger.decode_tokens for record in records] == [20, 0]
    # What search-and-learn itself chooses: naive the highest score, weighted the largest sum.
    for rule, right in (("best_of_n", 0.0), ("best_of_n_weighted", 1.0), ("majority", 1.0)):
        assert accuracy_table(records[:1], [4], pools=(), rule=rule).values.item() == right
    pq.write_table(pa.Table.from_pylist([dvts]), folder / "dvts_completions.parquet")
    assert read_records(folder / "dvts_completions.parquet") == records[1:]


def test_lm_evaluation_harness(tmp_path):
    again = HARNESS | {"filter": "flexible-extract", "filtered_resps": ["18"]}
    name = "samples_gsm8k_2025-01-31T10-20-30.123456.jsonl"
    [record] = read_records(write(tmp_path / name, HARNESS, again))
    assert record.key == ("gsm8k/0", "best_of_n", 2, 0)
    assert verdicts(record) == [("18", True), ("17", False)]
    assert [x.unboxed for x in record.candidates] == [True, True]
    assert read_records(tmp_path) == [record]


def test_a_batch_of_openai(tmp_path):
    path = tmp_path / "batch.jsonl"
    write(
        path, response("b", "\\boxed{7}", None), response("a-2", "8"), response("a-1", "\\boxed{4}")
    )
    with pytest.raises(UserError, match=r'into batch\.gold\.jsonl, as {"custom_id": "b", "gold"'):
        read_records(path)
    gold = [{"custom_id": "b", "gold": "7"}]
    write(tmp_path / "batch.gold.jsonl", *gold)
    with pytest.raises(
        UserError, match=r"batch\.jsonl:2: custom_id 'a-2' has no line in batch\.gold"
    ):
        read_records(path)
    gold += [{"custom_id": f"a-{i}", "gold": "$4$", "question": "a"} for i in (1, 2)]
    write(tmp_path / "batch.gold.jsonl", *gold)
    records = read_records(path)
    assert [record.key[:3] for record in records] == [("b", "best_of_n", 2), ("a", "best_of_n", 2)]
    assert [verdicts(record)[0] for record in records] == [("7", True), (None, False)]
    assert verdicts(records[1])[1] == ("4", True)
    assert [record.ledger.decode_tokens for record in records] == [30, 60]


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


EMPTY = SEARCH_AND_LEARN | {"completions": [], "scores": [], "completion_tokens": []}
FAILED = {"status_code": 429, "request_id": "r", "body": {"error": {"message": "slow down"}}}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("renamed", SEARCH_AND_LEARN, "name the file best_of_n_completions.jsonl, beam_search_"),
        ("dvts_completions", without(SEARCH_AND_LEARN, "answer"), "'answer' is missing"),
        ("dvts_completions", without(SEARCH_AND_LEARN, "problem"), "'question' is missing"),
        ("dvts_completions", SEARCH_AND_LEARN | {"scores": [[1]]}, "4 completions with 1 scores"),
        (
            "dvts_completions",
            SEARCH_AND_LEARN | {"scores": [[9]] * 4},
            "a score is 9; bring scores",
        ),
        ("dvts_completions", SEARCH_AND_LEARN | {"completions": [1] * 4}, "text is 1; it must be"),
        ("dvts_completions", SEARCH_AND_LEARN | {"completions": "one"}, "completions is 'one'"),
        ("samples_a", HARNESS | {"resps": [[["-1.5", "False"]]]}, "resps is not one list of texts"),
        ("samples_a", HARNESS | {"resps": [["a"], ["b"]]}, "resps is not one list of texts"),
        ("samples_a", HARNESS | {"doc_id": "0"}, "doc_id is '0'; it must be an integer"),
        ("samples_a", HARNESS | {"target": 18}, "target is 18; it must be text"),
        ("batch", response("q") | {"response": None}, "request 'q' has failed; send it again"),
        ("batch", response("q") | {"response": FAILED}, "request 'q' has failed; send it again"),
        ("batch", response("q", "a") | {"custom_id": 1}, "custom_id is 1; it must be text"),
        (
            "batch",
            response("q") | {"response": {"status_code": 200, "body": {"choices": [1]}}},
            "'response.body.usage.completion_tokens' is missing",
        ),
        # What would take a question out of the average in silence.
        ("batch", response("q"), "request 'q' has no choices; send it again, or take it out"),
        ("dvts_completions", EMPTY, "'test/algebra/1.json' has no completions; sample it again"),
        ("samples_a", HARNESS | {"resps": [[]]}, "doc_id 0 has no responses; sample it again"),
        (
            "dvts_completions",
            SEARCH_AND_LEARN | {"completion_tokens": 20},
            "completion_tokens is 20; it must be a list, or -1",
        ),
        (
            "dvts_completions",
            SEARCH_AND_LEARN | {"completion_tokens": [5, 6, 5, -2]},
            "tokens is -2; it must be at least 0",
        ),
        ("dvts_completions", SEARCH_AND_LEARN | {"unique_id": [1]}, "unique_id is [1]; it must"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, name, row, message):
    write(tmp_path / "batch.gold.jsonl", {"custom_id": "q", "gold": "7"})
    path = write(tmp_path / f"{name}.jsonl", row)
    with pytest.raises(UserError) as caught:
        read_records(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_responses_that_contradict_each_other(tmp_path):
    path = write(tmp_path / "samples_a.jsonl", HARNESS, HARNESS | {"resps": [["another"]]})
    with pytest.raises(UserError, match="jsonl:2: doc_id 0 comes again with other resps"):
        read_records(path)
    write(tmp_path / "b.gold.jsonl", *[{"custom_id": "q", "gold": "7"}] * 2)
    with pytest.raises(UserError, match=r"b\.gold\.jsonl:2: custom_id 'q' comes twice"):
        read_records(write(tmp_path / "b.jsonl", response("q", "7")))


def test_a_question_that_comes_twice_is_no_larger_pool(tmp_path):
    path = write(tmp_path / "dvts_completions.jsonl", SEARCH_AND_LEARN, SEARCH_AND_LEARN)
    with pytest.raises(UserError, match=r"jsonl:2: 'test/algebra/1\.json' comes twice; take one"):
        read_records(path)
    unnamed = without(SEARCH_AND_LEARN, "unique_id")
    path = write(tmp_path / "dvts_completions.jsonl", unnamed, unnamed)
    with pytest.raises(UserError, match=r"jsonl:2: 'What is \$1\+1\$\?' comes twice"):
        read_records(path)
    write(tmp_path / "b.gold.jsonl", {"custom_id": "q", "gold": "7"})
    with pytest.raises(UserError, match=r"b\.jsonl:2: custom_id 'q' comes twice; take one"):
        read_records(write(tmp_path / "b.jsonl", response("q", "7"), response("q", "7")))


def test_requests_without_an_answer_are_named(tmp_path):
    write(tmp_path / "b.gold.jsonl", *[{"custom_id": x, "gold": "7"} for x in ("z", "q", "y")])
    said = r"b\.jsonl: 2 of 3 requests in b\.gold\.jsonl have no answer here, the first 'z'; "
    with pytest.raises(UserError, match=said):
        read_records(write(tmp_path / "b.jsonl", response("q", "7")))


def test_what_two_files_hold_is_no_one_pool(tmp_path):
    name = "samples_gsm8k_2025-01-31T10-20-30.123456.jsonl"
    one = write(tmp_path / "model_a" / name, HARNESS)
    for other, row in (
        (tmp_path / "model_b" / name, HARNESS),
        (tmp_path / "model_a" / name.replace("2025", "2026"), HARNESS),
        (tmp_path / "model_b" / name, HARNESS | {"doc_id": 1}),  # of no question that the other has
    ):
        write(other, row)
        with pytest.raises(UserError) as caught:
            read_records(tmp_path)
        assert "holds samples of the task 'gsm8k', and so does" in str(caught.value)
        assert str(one) in str(caught.value)
        assert str(other) in str(caught.value)
        assert "give one of the files alone, or move the other" in str(caught.value)
        other.unlink()
    write(tmp_path / "model_b" / name.replace("gsm8k", "aime"), HARNESS)
    assert len(read_records(tmp_path)) == 2


def test_runs_of_several_sizes_may_lie_apart_and_equal_ones_not(tmp_path):
    four = write(tmp_path / "a" / "best_of_n_completions.jsonl", SEARCH_AND_LEARN)
    lists = ("completions", "scores", "completion_tokens")
    halved = SEARCH_AND_LEARN | {name: SEARCH_AND_LEARN[name][:2] for name in lists}
    other = write(tmp_path / "b" / "best_of_n_completions.jsonl", halved)
    assert [record.budget for record in read_records(tmp_path)] == [4, 2]
    write(other, SEARCH_AND_LEARN)
    said = "samples of question 'test/algebra/1.json' and strategy 'best_of_n', and so does"
    with pytest.raises(UserError, match=f"^{other}: holds {said} {four}; "):
        read_records(tmp_path)


def test_tokens_that_were_not_counted_are_no_tokens(tmp_path):
    for counts, tokens in ((-1, 0), (None, 0), ([5, -1, 5, 4], 0), ([5, 6, 5, 4], 20)):
        row = SEARCH_AND_LEARN | {"completion_tokens": counts}
        [record] = read_records(write(tmp_path / "dvts_completions.jsonl", row))
        assert record.ledger.decode_tokens == tokens
    write(tmp_path / "b.gold.jsonl", {"custom_id": "q", "gold": "7"})
    [record] = read_records(write(tmp_path / "b.jsonl", response("q", *"1234")))
    assert [x.token_count for x in record.candidates] == [8, 8, 7, 7]  # of a request's 30


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "samples.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(UserError, match=r"samples\.parquet: not Parquet, or damaged"):
        read_records(tmp_path / "samples.parquet")
    with pytest.raises(UserError, match=r"none\.parquet: "):
        read_records(tmp_path / "none.parquet")
