"""The README is short, and its Python example runs as it stands."""

import contextlib
import io
import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.split()) <= 900


def test_the_library_example():
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    fewer = example.replace('"size": 40', '"size": 3').replace("batch=20", "batch=2")
    printed = io.StringIO()
    names: dict = {}
    with contextlib.redirect_stdout(printed):
        exec(fewer, names)
    rules = [line.split()[0] for line in printed.getvalue().splitlines()]
    assert rules == ["majority", "best_of_n", "best_of_n_weighted", "pass"]
    assert {record.strategy for record in names["records"]} == {"beam"}
