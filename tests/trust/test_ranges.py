"""Every number of every shipped config has a range, and what lies outside is one line."""

import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ttc_jax import cli
from ttc_jax.config import fields, load_config
from ttc_jax.config_files import variants_of
from ttc_jax.errors import UserError
from ttc_jax.experiments.fields import FIELDS, check_fields, field_of
from ttc_jax.experiments.ranges import Choice, Each, Real, Whole

CONFIGS = Path(__file__).parents[2] / "configs"
VARIANTS = [
    f"{path}:{variant}"
    for path in sorted(CONFIGS.glob("*.py"))
    for variant in variants_of(path) or ("",)
]
# What none of a kind may be.
BAD = {
    Whole: (-(10**18), 10**18, math.nan, 0.5, True, "x"),
    Real: (math.nan, math.inf, -math.inf, True, "x"),
    Choice: ("x", "FLOAT32", 3),
    Each: ((-(10**18),), (math.nan,), (1, 1), ("x",), 3),
}


def is_number(value: object) -> bool:
    several = value if isinstance(value, tuple) else (value,)
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in several)


def numbers(config: ConfigDict) -> dict[str, object]:
    """The fields that hold numbers; options of strategies are checked by these."""
    return {
        name: value
        for name, value in fields(config).items()
        if is_number(value) and ".options." not in name and value != ()
    }


@pytest.mark.parametrize("spec", VARIANTS, ids=lambda spec: Path(spec).name)
def test_every_number_has_a_range_that_its_default_fits(spec: str) -> None:
    config = load_config(spec)
    check_fields(config)
    for name in numbers(config):
        found = field_of(name)
        assert found is not None, f"ttc_jax/experiments/fields.py has no line for {name}"
        assert found.values is not None, f"{name} has no range in ttc_jax/experiments/fields.py"


@pytest.mark.parametrize(
    "name", [x for x, field in FIELDS.items() if "*" not in x and field.values]
)
def test_what_is_out_of_range_names_the_flag(name: str) -> None:
    for bad in BAD[type(FIELDS[name].values)]:
        config: dict[str, object] = {name.rpartition(".")[2]: bad}
        for part in reversed(name.split(".")[:-1]):
            config = {part: config}
        with pytest.raises(UserError) as error:
            check_fields(ConfigDict(config))
        assert str(error.value).startswith(f"--config.{name}=")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("seed=-1", "--config.seed=-1: must be at least 0"),
        ("seed=4294967296", "--config.seed=4294967296: must be at most 4294967295"),
        ("sampling.temperature=nan", "--config.sampling.temperature=nan: must be a finite number"),
        ("sampling.top_p=0", "--config.sampling.top_p=0.0: must be above 0"),
        ("sampling.n=0", "--config.sampling.n=0: must be at least 1"),
        ("task.size=1000000000", "--config.task.size=1000000000: must be at most 100000000"),
        ("selection.aggregation=mean", "--config.selection.aggregation=mean: must be one of last"),
        ("execution.segment=0", "--config.execution.segment=0: must be at least 1"),
    ],
)
def test_the_command_refuses_before_anything_is_read(
    flag: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    spec = f"{CONFIGS / 'countdown.py'}:best_of_n"
    code = cli.main(["run", f"--config={spec}", f"--workdir={workdir}", f"--config.{flag}"])
    assert code == 2
    assert message in capsys.readouterr().err
    assert not workdir.exists()


def test_stages_are_checked_before_the_first_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, workdir = CONFIGS / "countdown.py", tmp_path / "run"
    flag = "--config.stage.policy.policy.resamples=3"
    assert cli.main(["run", f"--config={spec}", f"--workdir={workdir}", flag]) == 2
    assert f"{flag}: must be at least 10" in capsys.readouterr().err
    assert not workdir.exists()
