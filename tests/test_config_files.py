"""The shipped configs: what --help prints of each can be given back, and each has one job."""

import dataclasses
import shlex
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ttc_jax import cli
from ttc_jax.config import as_flag, fields, load_config
from ttc_jax.config_files import SHIPPED, variants_of
from ttc_jax.errors import UserError

assert SHIPPED is not None
SPECS = [
    f"{path.stem}:{variant}".removesuffix(":")
    for path in sorted(SHIPPED.glob("*.py"))
    for variant in variants_of(path) or ("",)
]


@pytest.mark.parametrize("spec", SPECS)
def test_what_help_prints_can_be_given_back(spec: str, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", f"--config={spec}", "--help"]) == 0
    _, _, printed = capsys.readouterr().out.partition("Fields and their values")
    lines = printed.partition("\n")[2]
    config = load_config(spec, shlex.split(lines, comments=True))
    assert config.to_dict() == load_config(spec).to_dict()
    assert len(shlex.split(lines, comments=True)) == len(fields(config))


@pytest.mark.parametrize(
    "spec",
    [
        "code:humaneval",
        "countdown:assets",
        "gsm8k:qwen2_5_coder",
        "judge:countdown",
        "math:qwen2_5",
        "serve:math",
    ],
)
def test_help_says_what_each_field_sets(spec: str, capsys):
    assert cli.main(["run", f"--config={spec}", "--help"]) == 0
    _, _, printed = capsys.readouterr().out.partition("Fields and their values")
    names = list(fields(load_config(spec)))
    for name, following in zip(names, [*names[1:], ""], strict=True):
        _, _, printed = printed.partition(f"\n  --config.{name}=")
        value, _, _ = printed.partition(f"\n  --config.{following}=")
        assert "  # " in value  # which may take several lines


@pytest.mark.parametrize("spec", SPECS)
def test_a_config_of_another_job_is_one_line(spec: str, capsys, tmp_path: Path):
    declared = load_config(spec).job
    for job, about in cli._jobs().items():
        if declared in about.takes:
            continue  # what it does then is tested with the job
        assert cli.main([job, f"--config={spec}", f"--workdir={tmp_path / 'w'}"]) == 2
        said = capsys.readouterr().err
        of_another = f"a config of ttc {declared}, not of ttc {job}"
        reason = of_another if about.takes else f"ttc {job} takes no config"
        assert said.startswith(f"ttc: --config={spec}: {reason}")
        assert said.count("\n") == 1
        assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("spec", SPECS)
def test_the_job_of_a_variant_is_the_one_that_its_file_lists(spec: str):
    assert SHIPPED is not None
    name, _, variant = spec.partition(":")
    listed = variants_of(SHIPPED / f"{name}.py").get(variant)
    assert load_config(spec).job == (listed.job if listed else "run")
    if listed:
        assert load_config(name).job in {
            x.job for x in variants_of(SHIPPED / f"{name}.py").values()
        }


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ((1, 2), "--config.x=1,2"),
        ((0.5,), "--config.x=0.5"),
        ((), "--config.x="),
        (("a", "b"), "--config.x=a,b"),
        (("a,b",), """--config.x='('"'"'a,b'"'"',)'"""),
        ((("q", "a"), ("r", "b")), None),
        ("it's", None),
        (" ", "--config.x=' '"),
        ("", "--config.x="),
        (True, "--config.x=True"),
    ],
)
def test_a_value_as_a_flag_is_read_as_that_value(value: object, flag: str | None, tmp_path: Path):
    printed = as_flag("x", value)
    assert flag in (None, printed)
    path = tmp_path / "c.py"
    empty = type(value)()
    path.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config(): return ConfigDict({{'x': {value!r}, 'y': {empty!r}}})\n"
    )
    [word] = shlex.split(printed)
    assert load_config(str(path), [word]).x == value
    name, _, text = word.partition("=")
    if not isinstance(value, bool):
        assert load_config(str(path), [name, text]).x == value


def test_a_shipped_config_is_found_by_name_from_any_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "math.py").write_text("raise RuntimeError")
    assert load_config("math").task.name == "math"
    known = "code, countdown, gsm8k, judge, math, serve, study, tpu, configs/"
    with pytest.raises(UserError, match=f"mth: no such .*{known}"):
        load_config("mth")


def test_sections_that_make_a_dataclass_have_its_fields():
    """A config cannot offer what the class behind it does not know."""
    from ttc_jax.tasks.prompts import PromptFormat

    known = {field.name for field in dataclasses.fields(PromptFormat)}
    for spec in SPECS:
        prompt = load_config(spec).get("prompt", ConfigDict())
        assert set(prompt) <= known
    assert set(load_config("math").prompt) == known
