"""The README's Python examples run as they stand."""

import contextlib
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(name: str) -> str:
    [found] = [text for text in BLOCKS if name in text]
    return found


def test_the_library_example():
    fewer = block("Recorder(").replace('"size": 40', '"size": 3').replace("batch=20", "batch=2")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(fewer, {})
    rules = [line.split()[0] for line in printed.getvalue().splitlines()]
    assert rules == ["majority", "best_of_n", "best_of_n_weighted", "pass"]


def test_the_strategy_of_ones_own():
    names: dict = {}
    exec(block("class AboveMean"), names)
    scores, active = jnp.array([0.1, 0.9, 0.5, 0.7]), jnp.array([True, True, True, False])
    with jax.numpy_dtype_promotion("standard"):  # as it is for everyone but these tests
        parents = names["AboveMean"]().select(scores, active, jax.random.key(0))
    assert parents[:3].tolist() == [1, 1, 2]


def test_the_solver_example(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block("Solver(load_config"), {})
    answers = [line.split() for line in printed.getvalue().splitlines()]
    assert [rest for _, *rest in answers] == [["best_of_n", "16"]] * 2
    assert answers[0][0] == "82"
