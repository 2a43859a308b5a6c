"""A policy as the section of a config: read from a file, written by hand, switched by flags."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ttc_jax import cli
from ttc_jax.config import as_flag, fields, load_config
from ttc_jax.errors import UserError
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.fitted import followed
from ttc_jax.experiments.workdir import Claim

POLICY: dict[str, Any] = {
    "difficulty": "predicted",
    "samples": 4,
    "edges": [0.5, -0.5],
    "choice": {
        "bin_1": {"n_4": "best_of_n"},
        "bin_2": {"n_4": "best_of_n", "n_16": "beam_2"},
        "bin_3": {"n_16": "beam_4"},
    },
    "strategies": {
        "best_of_n": {"strategy": "best_of_n"},
        "beam_2": {"strategy": "beam", "options": {"width": 2}},
        "beam_4": {"strategy": "beam", "options": {"width": 4}},
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    return tmp_path / "policy.json"


def load(*flags: str, config: str = "countdown:solve") -> ConfigDict:
    found = load_config(config, [f"--config.{flag}" for flag in flags])
    check_fields(found)
    return found


def choice(config: ConfigDict) -> dict[str, Any]:
    return config.policy.choice.to_dict()


def test_a_file_fills_the_section_and_flags_change_it(file: Path):
    config = load(f"policy.path={file}")
    assert choice(config) == POLICY["choice"]
    assert config.policy.edges == (0.5, -0.5)
    assert config.policy.strategies.beam_4.options.width == 4
    config = load(
        "policy.choice.bin_3.n_16=beam_2",
        "policy.strategies.beam_2.options.width=8",
        f"policy.path={file.parent}",
    )
    assert choice(config) == POLICY["choice"] | {"bin_3": {"n_16": "beam_2"}}
    effective, fitted = followed(config)
    assert fitted is not None
    assert fitted.policy.strategy(-1.0, 16) == ("beam_2", 16)
    assert fitted.strategies["beam_2"].options == {"width": 8}
    assert "beam_4" not in effective.policy.strategies  # which no bin uses now
    assert followed(effective)[0].to_dict() == effective.to_dict()


def test_bins_have_budgets_of_their_own(file: Path):
    _, fitted = followed(load(f"policy.path={file}", "budget=20"))
    assert fitted is not None
    spent = [fitted.policy.strategy(easiness, 20) for easiness in (1.0, 0.0, -1.0)]
    assert spent == [("best_of_n", 4), ("beam_2", 16), ("beam_4", 16)]
    with pytest.raises(UserError, match="budget=15: .* below the policy's least, 16"):
        followed(load(f"policy.path={file}", "budget=15"))


def test_a_config_holds_a_policy_by_hand(tmp_path: Path, file: Path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from ttc_jax.config import load_config\n\n\n"
        "def get_config():\n"
        "    config = load_config('countdown:solve')\n"
        f"    config.policy = {POLICY | {'edges': (0.5, -0.5)}!r}\n"
        "    return config\n"
    )
    _, fitted = followed(load("policy.choice.bin_3.n_16=beam_2", config=str(mine)))
    assert fitted is not None
    assert fitted.policy.choice[2] == {16: "beam_2"}
    mine.write_text(mine.read_text().replace("{'difficulty'", "{'path': '', 'difficulty'"))
    assert followed(load(config=str(mine)))[1] is not None
    with pytest.raises(UserError, match="policy.choice is written in the config as well"):
        load(f"policy.path={file}", config=str(mine))


def test_a_config_that_was_filled_follows_its_path(file: Path, tmp_path: Path):
    config = load(f"policy.path={file}")
    (tmp_path / "other.json").write_text(json.dumps(POLICY | {"edges": [0.9, 0.1]}))
    config.policy.path = str(tmp_path / "other.json")
    assert followed(config)[0].policy.edges == (0.9, 0.1)
    config.policy.path = ""
    assert followed(config)[1] is None


def test_files_of_earlier_versions_say_the_budgets_of_all_bins(file: Path):
    older = {"bin_1": {"n_4": "best_of_n"}, "bin_2": {"n_4": "beam_2"}}
    table = POLICY | {"choice": older, "budgets": [4], "edges": [0.5]}
    file.write_text(json.dumps(table))
    assert choice(load(f"policy.path={file}")) == older
    file.write_text(json.dumps(table | {"budgets": [4, 16]}))
    with pytest.raises(UserError, match=r"choice\.bin_1 has other budgets than budgets says"):
        load(f"policy.path={file}")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("policy.choice.bin_3.n_16=bem_4", r"^policy\.choice\.bin_3\.n_16: 'bem_4' is no strategy"),
        ("policy.choice.bin_9.n_16=beam_4", r"choice\.bin_9\.n_16: unknown field; did you mean"),
        ("policy.edges=0.5", r"^policy\.choice\.bin_3: no such bin; 1 policy\.edges make 2"),
        ("policy.edges=0.1,0.5", r"policy\.edges: .*must fall, as in 0\.5,0\.1"),
        ("policy.difficulty=oracle", "policy.difficulty=oracle: .* cannot be told"),
        ("policy.strategies.beam_2.lookahead=-1", r"policy\.strategies\.beam_2\.lookahead: "),
    ],
)
def test_mistakes_name_their_field(file: Path, flag: str, message: str):
    with pytest.raises(UserError, match=message):
        followed(load(f"policy.path={file}", flag))


def test_a_file_that_is_still_to_be_written_is_missed_where_it_is_read():
    config = load("policy.path=nowhere")
    with pytest.raises(UserError, match="policy.path=nowhere: no such file"):
        followed(config)
    with pytest.raises(UserError, match="policy.path=nowhere: no such file"):
        load("policy.path=nowhere", "policy.choice.bin_3.n_16=beam_4")
    with pytest.raises(UserError, match="did you mean --config.policy.path"):
        load("policy.pth=nowhere")


def test_help_shows_the_policy_as_flags_that_can_be_pasted(file: Path, capsys):
    command = ["solve", "--config=countdown:solve", f"--config.policy.path={file}", "--help"]
    assert cli.main(command) == 0
    assert "--config.policy.choice.bin_3.n_16=beam_4" in capsys.readouterr().out
    config = load(f"policy.path={file}")
    pasted = " ".join(as_flag(name, value) for name, value in fields(config).items())
    flags = shlex.split(pasted)
    assert load_config("countdown:solve", flags).to_dict() == config.to_dict()


def test_a_workdir_belongs_to_the_policy_and_not_to_its_file(file: Path, tmp_path: Path):
    def claim(*flags: str) -> None:
        config, _ = followed(load(*flags, config="countdown:compute_optimal"))
        Claim(tmp_path / "w", config, may_change=("policy.path", "policy.loaded")).take()

    claim(f"policy.path={file}")
    moved = file.rename(tmp_path / "moved.json")
    claim(f"policy.path={moved}")
    with pytest.raises(UserError, match=r"another config: policy\.choice\.bin_3\.n_16"):
        claim(f"policy.path={moved}", "policy.choice.bin_3.n_16=beam_2")
