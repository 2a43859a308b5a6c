"""`ttc gather` deletes and doubles nothing of the user's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.jobs import gather


def model(folder: Path, name: str = "a") -> Path:
    (folder / "parameters").mkdir(parents=True)
    text = json.dumps({"kind": "generator", "config": {}, "metadata": {"command": name}})
    (folder / "model.json").write_text(text)
    (folder / "parameters" / "d").write_text(name)
    return folder


def config(**models: Path) -> ConfigDict:
    named = {name: str(path) for name, path in models.items()}
    return ConfigDict({"models": named, "measured": {}, "megabytes": 1.0})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(x): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def linked(link: Path, to: Path) -> Path:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(to)
    return link


def own_output(here: Path) -> tuple[ConfigDict, Path]:
    gather.main(config(one=model(here / "one")), here / "w")
    return config(one=here / "w" / "models" / "one"), here / "w"


def own_output_by_a_link(here: Path) -> tuple[ConfigDict, Path]:
    _, workdir = own_output(here)
    return config(one=linked(here / "link", workdir / "models" / "one")), workdir


def own_output_by_dots(here: Path) -> tuple[ConfigDict, Path]:
    _, workdir = own_output(here)
    return config(one=here / "one" / ".." / "w" / "models" / "one"), workdir


def output_in_a_source(here: Path) -> tuple[ConfigDict, Path]:
    return config(one=model(here / "one")), here / "one"


def workdir_is_a_link_into_a_source(here: Path) -> tuple[ConfigDict, Path]:
    source = model(here / "one")
    return config(one=source), linked(here / "w", source)


def output_is_a_source(here: Path) -> tuple[ConfigDict, Path]:
    return config(one=model(here / "w" / "models")), here / "w"


def twice(here: Path) -> tuple[ConfigDict, Path]:
    return config(one=model(here / "one"), two=here / "one"), here / "w"


def twice_by_a_link(here: Path) -> tuple[ConfigDict, Path]:
    source = model(here / "one")
    return config(one=source, two=linked(here / "two", source)), here / "w"


def nested(here: Path) -> tuple[ConfigDict, Path]:
    return config(one=model(here / "one"), two=model(here / "one" / "two")), here / "w"


def foreign_output(here: Path) -> tuple[ConfigDict, Path]:
    model(here / "w" / "models" / "mine")
    return config(one=model(here / "one")), here / "w"


def linked_output(here: Path) -> tuple[ConfigDict, Path]:
    linked(here / "w" / "models", model(here / "mine"))
    return config(one=model(here / "one")), here / "w"


def added_to_the_output(here: Path) -> tuple[ConfigDict, Path]:
    own_output(here)
    (here / "w" / "models" / "notes.txt").write_text("mine")
    return config(one=here / "one"), here / "w"


def added_to_a_gathered_model(here: Path) -> tuple[ConfigDict, Path]:
    own_output(here)
    (here / "w" / "models" / "one" / "notes.txt").write_text("mine")
    return config(one=here / "one"), here / "w"


def a_name_that_leads_out(here: Path) -> tuple[ConfigDict, Path]:
    return config(**{"a/b": model(here / "one")}), here / "w"


def too_large(here: Path) -> tuple[ConfigDict, Path]:
    _, workdir = own_output(here)
    (here / "one" / "parameters" / "d").write_bytes(bytes(2 * 10**6))
    return config(one=here / "one"), workdir


CASES: list[tuple[Callable[[Path], tuple[ConfigDict, Path]], str]] = [
    (own_output, "lie in each other"),
    (own_output_by_a_link, "lie in each other"),
    (own_output_by_dots, "lie in each other"),
    (output_in_a_source, "lie in each other"),
    (workdir_is_a_link_into_a_source, "lie in each other"),
    (output_is_a_source, "lie in each other"),
    (twice, r"models\.one=.* and models\.two=.* are the same folder"),
    (twice_by_a_link, "are the same folder"),
    (nested, "lie in each other"),
    (foreign_output, "was not written by ttc gather: move .* away, or use another --workdir"),
    (linked_output, "was not written by ttc gather"),
    (added_to_the_output, r"notes\.txt is not as ttc gather left it"),
    (added_to_a_gathered_model, "models/one is not as ttc gather left it"),
    (a_name_that_leads_out, "must be one that a folder may have"),
    (too_large, "more than megabytes=1.0"),
]


@pytest.mark.parametrize(("case", "message"), CASES)
def test_nothing_is_touched_by_what_is_refused(tmp_path, case, message):
    settings, workdir = case(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        gather.main(settings, workdir)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_what_was_gathered_is_replaced(tmp_path):
    settings = config(one=model(tmp_path / "one"))
    gather.main(settings, tmp_path / "w")
    (tmp_path / "one" / "parameters" / "d").write_text("taught on")
    gather.main(settings, tmp_path / "w")
    assert (tmp_path / "w/models/one/parameters/d").read_text() == "taught on"
    assert {x.name for x in (tmp_path / "w").iterdir()} == {"models", "config.json"}


def test_a_copy_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    settings = config(one=model(tmp_path / "one"))
    gather.main(settings, tmp_path / "w")
    before = contents(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gather.shutil, "copytree", full)
    with pytest.raises(UserError, match="No space left on device"):
        gather.main(settings, tmp_path / "w")
    assert contents(tmp_path) == before
