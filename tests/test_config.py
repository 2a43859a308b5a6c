import string
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import pytest
from ml_collections import ConfigDict

from ttc_jax.config import (
    as_flag,
    enable_compilation_cache,
    fields,
    load_config,
    nearest,
    to_json,
)
from ttc_jax.errors import UserError
from ttc_jax.experiments.workdir import claim_workdir
from ttc_jax.files import read_json
from ttc_jax.tasks.prompts import PromptFormat

CONFIGS = Path(__file__).parents[1] / "configs"
SOURCE = """
from ml_collections import ConfigDict

VARIANTS = {"large": "More of it."}


def get_config(variant=""):
    return ConfigDict({
        "seed": 0,
        "name": "x",
        "verbose": False,
        "budgets": (1, 2, 4),
        "ratios": (0.5, 1.0),
        "layers": [1],
        "limit": None,
        "sampling": {"temperature": 1.0, "top_k": 5},
        "verifier": {"path": "a"},
        "generator": {"path": "b", "layers": 8 if variant else 2},
    })
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "config.py").write_text(SOURCE)
    return str(tmp_path / "config.py")


def test_defaults_variant_and_lock(path: str):
    assert load_config(path).generator.layers == 2
    config = load_config(f"{path}:large")
    assert config.generator.layers == 8
    with pytest.raises(AttributeError):
        config.generator.new = 1


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("--config.seed=3", "seed", 3),
        ("--config.sampling.temperature=2", "sampling.temperature", 2.0),
        ("--config.budgets=1,2", "budgets", (1, 2)),
        ("--config.budgets=(8,)", "budgets", (8,)),
        ("--config.ratios=1,0.5", "ratios", (1, 0.5)),
        ("--config.verbose", "verbose", True),
        ("--noconfig.verbose", "verbose", False),
        ("--config.name=a=b,c: d", "name", "a=b,c: d"),
        ("--config.name=", "name", ""),
    ],
)
def test_override(path: str, override: str, name: str, value: object):
    changed = fields(load_config(path, [override]))
    assert changed[name] == value
    assert {k: v for k, v in changed.items() if k != name} == {
        k: v for k, v in fields(load_config(path)).items() if k != name
    }


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.sampling.temprature=1", "did you mean --config.sampling.temperature?"),
        ("--config.temperature=1", "did you mean --config.sampling.temperature?"),
        ("--config.verifer.path=c", "did you mean --config.verifier.path?"),
        ("--config.sampling.zzz=1", "there are sampling.temperature, sampling.top_k"),
        ("--config.zzz=1", "there are budgets"),
        ("--config.seed.x=1", "--config.seed.x: unknown field"),
        ("--config.sampling=1", "--config.sampling is a section: set one of sampling.temperature"),
        ("--config.seed=abc", "--config.seed=abc: expected int, as in --config.seed=0"),
        ("--config.seed=1.5", "--config.seed=1.5: expected int"),
        ("--config.verbose=maybe", "--config.verbose=maybe: expected bool"),
        ("--config.sampling.temperature=hot", "expected float"),
        ("--config.budgets=a,b", "--config.budgets=a,b: expected int values"),
        ("--config.budgets=1,2.5", "as in --config.budgets=1,2,4"),
        ("--config.budgets=1 2", "expected int values"),
        ("--config.layers=1", "--config.layers cannot be set by a flag"),
        ("--config.limit=1", "--config.limit cannot be set by a flag"),
        ("--config.seed", "Missing value for flag --config.seed"),
        ("--noconfig.seed", "noconfig.seed"),
        ("--noconfig.verbose=1", "does not take an argument"),
    ],
)
def test_bad_override_names_the_field(path: str, override: str, said: str):
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "variant", "said"),
    [
        (None, "", "no such file"),
        (SOURCE, "larg", "must be one of large"),
        ("def get_config(): return 1", "a", "this config has no variants"),
        ("def get_config(): return 1", "", "must return an ml_collections.ConfigDict"),
        ("x = 1", "", "defines no get_config()"),
    ],
)
def test_bad_config_file(tmp_path: Path, source: str | None, variant: str, said: str):
    path = tmp_path / "c.py"
    if source is not None:
        path.write_text(source)
    with pytest.raises(UserError, match="c.py") as caught:
        load_config(f"{path}:{variant}")
    assert said in str(caught.value)


def test_missing_config_lists_those_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"there are code, countdown, gsm8k, judge, math, serve, study, tpu"
    ):
        load_config("configs/a.py")
    (tmp_path / "configs").mkdir()
    for name in ("b.py", "c.py"):
        (tmp_path / "configs" / name).write_text("")
    with pytest.raises(UserError, match="tpu, configs/b.py, configs/c.py"):
        load_config("configs/a.py")


@hypothesis.given(st.text(string.printable), st.lists(st.integers(), min_size=1))
def test_flag_sets_the_value_it_shows(tmp_path_factory, name: str, budgets: list[int]):
    import shlex

    file = tmp_path_factory.getbasetemp() / "round_trip.py"
    file.write_text(SOURCE)
    flags = [as_flag("name", name), as_flag("budgets", tuple(budgets))]
    config = load_config(str(file), [shlex.split(flag)[0] for flag in flags])
    assert config.name == name
    assert config.budgets == tuple(budgets)


def test_nearest_prefers_the_same_leaf():
    known = ["generator.path", "verifier.path", "search.n", "seed"]
    assert nearest("verifer.path", known) == "verifier.path"
    assert nearest("n", known) == "search.n"
    assert nearest("seeds", known) == "seed"
    assert nearest("search.m", known) == ""
    assert nearest("a", []) == ""


def test_workdir_belongs_to_the_config_that_claimed_it(tmp_path: Path, path: str):
    workdir = tmp_path / "runs" / "a"
    config = load_config(path)
    claim_workdir(workdir, config)
    written = (workdir / "config.json").read_text()
    assert read_json(workdir / "config.json") == to_json(config)
    claim_workdir(workdir, load_config(path))
    other = load_config(path, ["--config.seed=2", "--config.budgets=1,8", "--config.name=a b"])
    with pytest.raises(UserError) as caught:
        claim_workdir(workdir, other)
    message = str(caught.value)
    assert "seed (there 0, now 2)" in message
    assert "or --config.budgets=1,2,4 --config.name=x --config.seed=0" in message
    claim_workdir(workdir, other, may_change=("seed", "budgets", "name"))
    assert (workdir / "config.json").read_text() == written


def test_workdir_may_change_covers_sections_not_prefixes(tmp_path: Path, path: str):
    claim_workdir(tmp_path, load_config(path))
    other = load_config(path, ["--config.sampling.top_k=1"])
    claim_workdir(tmp_path, other, may_change=("sampling",))
    with pytest.raises(UserError, match="sampling.top_k"):
        claim_workdir(tmp_path, other, may_change=("sampling.top", "samp"))


def test_workdir_of_a_config_with_other_fields(tmp_path: Path):
    claim_workdir(tmp_path, ConfigDict({"a": 1}))
    with pytest.raises(UserError, match=r"a \(there 1, now None\), b \(there None, now 2\)"):
        claim_workdir(tmp_path, ConfigDict({"b": 2}))


def test_workdir_of_a_version_that_lacked_a_field(tmp_path: Path):
    claim_workdir(tmp_path, ConfigDict({"a": 1}))
    claim_workdir(tmp_path, ConfigDict({"a": 1, "b": ""}))


def test_workdir_of_a_version_without_tokenizers_of_their_own(tmp_path: Path):
    new = load_config(f"{CONFIGS}/math.py:qwen2_5")
    old = load_config(f"{CONFIGS}/math.py:qwen2_5")
    with old.unlocked():
        del old.generator.tokenizer, old.prompt.chat_template_kwargs
    claim_workdir(tmp_path, old)
    claim_workdir(tmp_path, new)
    other = load_config(f"{CONFIGS}/math.py:qwen2_5", ["--config.generator.tokenizer=t"])
    with pytest.raises(UserError, match=r"generator.tokenizer \(there None, now 't'\)"):
        claim_workdir(tmp_path, other)


def test_chat_template_kwargs_are_given_as_json():
    flag = '--config.prompt.chat_template_kwargs={"enable_thinking": false}'
    config = load_config(f"{CONFIGS}/math.py:qwen2_5", [flag])
    assert config.prompt.chat_template_kwargs == '{"enable_thinking": false}'
    assert PromptFormat(**config.prompt).chat


def test_a_study_names_its_tokenizer_once():
    config = load_config(f"{CONFIGS}/gsm8k.py:qwen2_5_coder", ["--config.generator.tokenizer=t"])
    assert config.stage.samples.generator.tokenizer == "t"
    assert config.stage.probe.start.tokenizer == "t"
    assert config.stage.search.generator.tokenizer == "t"


def test_bad_workdir(tmp_path: Path, path: str):
    config = load_config(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        claim_workdir(tmp_path / "file", config)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is not JSON"):
        claim_workdir(tmp_path / "w", config)


def test_compilation_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    updates: dict[str, object] = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    enable_compilation_cache()
    assert updates.pop("jax_compilation_cache_dir") == str(tmp_path / "ttc_jax" / "xla")
    assert (tmp_path / "ttc_jax" / "xla").is_dir()
    assert updates
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    enable_compilation_cache()
    assert "jax_compilation_cache_dir" not in updates


def test_compilation_cache_without_a_folder(tmp_path: Path, monkeypatch, caplog):
    updates: dict[str, object] = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    enable_compilation_cache()
    assert "jax_compilation_cache_dir" not in updates
    assert "no compilation cache" in caplog.text
