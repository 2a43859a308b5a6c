"""Labelled solutions as ProcessBench and PRM800K publish them, and rows that are neither."""

import json
from pathlib import Path
from typing import Any

import pytest

from ttc_jax.errors import UserError
from ttc_jax.tasks.labelled import LabelledSolution, read_labelled

ROW: dict[str, Any] = {
    "id": "gsm8k-0",
    "generator": "Qwen2-7B-Instruct",
    "problem": "How many are 2 and 3, twice?",
    "steps": ["2 and 3 are 6.", "Twice that is 12."],
    "final_answer_correct": False,
    "label": 0,
}


def step(*completions: tuple[str, int], chosen: int | None = 0, human: str | None = None) -> dict:
    return {
        "completions": [{"text": t, "rating": r, "flagged": None} for t, r in completions],
        "human_completion": human and {"text": human, "rating": None, "flagged": False},
        "chosen_completion": chosen,
    }


def labels(*steps: dict, finish: str = "solution", **about: Any) -> dict:
    return {
        "labeler": "x",
        "generation": 9,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "1 + 1?", "ground_truth_answer": "2"},
        "label": {"steps": list(steps), "total_time": 1, "finish_reason": finish},
        **about,
    }


def read(tmp_path: Path, *rows: dict) -> list[LabelledSolution]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_labelled(tmp_path / "rows.jsonl")


def test_processbench_as_it_is_published(tmp_path: Path):
    right = ROW | {"id": "gsm8k-1", "label": -1}
    (tmp_path / "gsm8k.json").write_text(json.dumps([ROW, right], indent=4))
    (tmp_path / "math.jsonl").write_text(json.dumps(ROW | {"id": "math-0"}) + "\n")
    (tmp_path / "README.md").write_text("of ProcessBench")
    found = read_labelled(tmp_path)
    assert [(x.id, x.subset, x.label) for x in found] == [
        ("gsm8k/gsm8k-0", "gsm8k", 0),
        ("gsm8k/gsm8k-1", "gsm8k", -1),
        ("math/math-0", "math", 0),
    ]
    assert found[0].steps == tuple(ROW["steps"])
    assert found[0].problem == ROW["problem"]
    assert found[0].finished


def test_rows_without_ids_have_those_of_their_text(tmp_path: Path):
    row = {name: ROW[name] for name in ("steps", "label")} | {"question": "?", "subset": "own"}
    one, two = read(tmp_path, row, row)
    assert one.subset == "own"
    assert two.id == f"{one.id}-2"
    assert read(tmp_path, ROW, row)[1].id == one.id


def test_prm800k_gives_the_solution_that_was_labelled(tmp_path: Path):
    found = read(
        tmp_path,
        # Of phase 2: labelling ended with the solution's own wrong step and alternatives to it.
        labels(
            step(("a", 1)),
            step(("b", 0)),
            step(("c", -1), ("d", 1), chosen=None),
            finish="found_error",
        ),
        labels(step(("a", 1)), step(("b", -1), ("c", 1), chosen=1), step(("2", 1))),
        # Of phase 1: all were wrong, and the labeler wrote the step.
        labels(step(("a", -1), chosen=None, human="h"), step(("2", 1))),
        labels(step(("a", 1)), step(("b", -1)), step(("c", 1))),
        labels(step(("a", 1)), finish="give_up"),
        labels(step(("a", 1)), is_quality_control_question=True),
        labels(step(("a", -1)), is_initial_screening_question=True),
    )
    assert [(x.steps, x.label, x.finished) for x in found] == [
        (("a", "b", "c"), 2, False),
        (("a", "c", "2"), -1, True),
        (("h", "2"), -1, True),
        (("a", "b"), 1, False),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW | {"label": 2}, "'label' must be the place of a step, 0 to 1, or -1"),
        (ROW | {"label": True}, "'label' must be"),
        (ROW | {"label": None}, "'label' must be"),
        (ROW | {"steps": []}, "'steps' must be a list of texts"),
        (ROW | {"steps": "a"}, "'steps' must be a list of texts"),
        (ROW | {"steps": ["a", ""]}, "'steps' is empty"),
        (ROW | {"steps": ["a", None]}, "'steps' must be text"),
        ({"steps": ["a"], "label": 0}, "'question' is missing"),
        (labels() | {"question": {}}, "'problem' is missing"),
        (labels({"completions": [{}], "chosen_completion": 0}), "no labels as PRM800K has them"),
        (labels(step(("a", 1), chosen=1)), "no labels as PRM800K has them"),
    ],
)
def test_a_row_of_neither_format_is_named(tmp_path: Path, row: dict, said: str):
    with pytest.raises(UserError, match=said) as error:
        read(tmp_path, ROW, row)
    assert f"{tmp_path / 'rows.jsonl'}:2: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labelled solution in it"),
        ("[]", "no labelled solution in it"),
        ("[1]", r"rows.json:1: expected a JSON object"),
        ("[{]", r"rows.json:1: not JSON"),
        ("x", r"rows.json:1: not JSON"),
        (json.dumps([ROW, ROW]), "a second solution with the id 'rows/gsm8k-0'"),
    ],
)
def test_a_file_without_solutions(tmp_path: Path, text: str, said: str):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_labelled(tmp_path / "rows.json")
    with pytest.raises(UserError, match="no such file"):
        read_labelled(tmp_path / "other.json")
