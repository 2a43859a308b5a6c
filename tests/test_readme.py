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
    printed = io.StringIO()
    names: dict = {}
    with contextlib.redirect_stdout(printed):
        exec(example, names)
    solved, *drawn = printed.getvalue().splitlines()
    assert solved == f"{names['solution'].answer} beam 16"
    assert len(names["output"].completions) == 4
    assert drawn
