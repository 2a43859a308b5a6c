"""The pages on one's own task and one's own model, followed to the letter."""

import contextlib
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers

from tests.models.small import CONFIGS, random_tensors, write_folder
from tests.models.test_tokenizers import trained
from ttc_jax import cli
from ttc_jax.results.store import ResultsStore

ROOT = Path(__file__).parents[1]
# A block of code, and the text before it.
BLOCK = re.compile(r"((?:[^\n]+\n)*)\n```(\w*)\n(.*?)```", re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the configs, to work in."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("triangles", "additions"):
        sys.modules.pop(name, None)


def follow(page: str) -> str:
    """Writes the files, runs the commands and the Python; what all of it printed."""
    printed, variables = io.StringIO(), {}
    for before, kind, text in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        named = re.findall(r"`(\w+\.(?:py|jsonl))`", before)
        with contextlib.redirect_stdout(printed):
            if kind in ("python", "json") and named:
                Path(named[0]).write_text(text, encoding="utf-8")
            elif kind == "python":
                exec(text, {})
            elif kind == "bash":
                for line in text.replace("\\\n", "").splitlines():
                    run(line, variables)
    return printed.getvalue()


def run(line: str, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        line = line.replace(f"${name}", value)
    words = shlex.split(line, comments=True)
    if words[0] == "ttc":
        assert cli.main(words[1:]) == 0
    else:
        [assignment] = words
        name, _, variables[name] = assignment.partition("=")


def test_ones_own_task(here: Path) -> None:
    printed = follow("bring-your-own-task.md")
    assert printed.splitlines()[:3] == ["sqrt(3) True", "173/100 False", "None False"]
    records = ResultsStore(here / "runs" / "additions").read()
    assert [record.question for record in records] == [f"additions/test/{i}" for i in range(6)]
    answers = [candidate.answer for record in records for candidate in record.candidates]
    assert any(re.fullmatch(r"\d\d[+*-]\d\d", answer or "") for answer in answers)
    summary = json.loads((here / "runs" / "additions" / "summary.json").read_text())
    assert list(summary["accuracy"]["pass"]) == ["1", "2", "4", "8"]


def test_ones_own_model(here: Path) -> None:
    tokenizer = trained(pre_tokenizers.Digits(individual_digits=True), words=True)
    fields = {**CONFIGS["qwen2"], "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    tokenizer.save_pretrained(write_folder(here / "my-model", fields, random_tensors(fields)))
    printed = follow("bring-your-own-model.md")
    records = ResultsStore(here / "runs" / "first").read()
    asked = (here / "runs" / "first" / "prompts.txt").read_text()
    assert "<|im_start|>user\nAnn has 12 apples" in asked
    assert asked.count("tokens\n<|im_start|>") == 2
    assert len(records) == 2
    assert printed.count(f"{records[0].question} ") == len(records[0].candidates) == 4
    assert "<|im_start|>" not in printed  # special tokens have no text
    assert re.search(r"What is 1\+1\?\n\nSolve the problem step by step.*\nassistant\n", printed)
    assert printed.splitlines()[-1] == r"['1+1 is 2.\n', 'So it is 2.']"
