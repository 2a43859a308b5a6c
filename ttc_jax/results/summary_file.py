"""What reports read of the jobs' summary.json: one place that says which shape it must have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from ttc_jax.errors import UserError
from ttc_jax.files import read_json, write_json
from ttc_jax.typed_json import check

NAME: Final = "summary.json"
ALL: Final = "summaries.json"  # of a report: those that it shows, by job


@dataclasses.dataclass(frozen=True)
class _Estimate:
    mean: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


@dataclasses.dataclass(frozen=True)
class _Ratio:
    ratio: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    censored: bool


_Budget = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
_Curve = dict[_Budget, _Estimate]
_Accuracy = Annotated[dict[str, _Curve], Field(min_length=1)]
_Costs = dict[str, FiniteFloat]


@dataclasses.dataclass(frozen=True)
class _Bin:
    questions: PositiveInt
    pass_at_1: FiniteFloat
    accuracy: dict[str, _Curve]
    gain: dict[str, _Curve] | None = None
    tied: FiniteFloat = 0.0


@dataclasses.dataclass(frozen=True)
class _Choosing:
    accuracy: _Accuracy
    over_majority: dict[str, _Curve]


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every job's summary has."""

    questions: NonNegativeInt
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    ledger: _Costs | dict[str, dict[_Budget, _Costs]] = dataclasses.field(default_factory=dict)
    ledger_per_question: _Costs = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Search(_Job):
    accuracy: _Accuracy
    bins: list[_Bin] = dataclasses.field(default_factory=list)
    separate_difficulty: bool = False
    gain: dict[str, _Curve] | None = None
    strategy_efficiency: dict[str, dict[_Budget, _Ratio]] | None = None
    choosing: _Choosing | None = None


@dataclasses.dataclass(frozen=True)
class _Fitted:
    accuracy: _Curve
    by_bin: list[_Curve]
    gain: _Curve
    choice: dict[str, dict[str, str]]
    single: _Curve | None = None
    over_single: _Curve | None = None
    tied: FiniteFloat = 0.0


@dataclasses.dataclass(frozen=True)
class _Allocation:
    accuracy: _Estimate
    spent: _Estimate
    uniform: _Estimate
    gain: _Estimate
    informed: _Estimate
    stopped: dict[_Budget, FiniteFloat]


@dataclasses.dataclass(frozen=True)
class _Sides:
    small: _Estimate | None
    large: _Estimate | None
    difference: _Estimate | None
    relative: _Estimate | None


@dataclasses.dataclass(frozen=True)
class _Match:
    generations: FiniteFloat
    affordable: bool
    beyond: bool
    all: _Sides
    by_bin: list[_Sides]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Policy(_Job):
    accuracy: _Accuracy
    compute_optimal: dict[str, _Fitted]
    efficiency: dict[str, dict[_Budget, _Ratio]] | None = None
    separate_difficulty: bool = True
    efficiency_net: dict[str, dict[_Budget, _Ratio]] | None = None
    allocation: dict[_Budget, _Allocation] | None = None
    flops_match: dict[str, dict[str, dict[str, _Match]]] | None = None


@dataclasses.dataclass(frozen=True)
class _Chain:
    pass_at_1_by_position: Annotated[list[_Estimate], Field(min_length=1)]
    flips: dict[str, _Estimate | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Chains(_Job):
    chains: _Chain | None = None


@dataclasses.dataclass(frozen=True)
class _Entry:
    ratio: FiniteFloat = 0.0


@dataclasses.dataclass(frozen=True)
class _Sweep:
    strategies: dict[str, _Entry]


@dataclasses.dataclass(frozen=True)
class _SweepConfig:
    sweep: _Sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ratios(_Search):
    config: _SweepConfig  # type: ignore[assignment]


_SHAPES: Final[dict[str, Any]] = {
    "search": _Search,
    "policy": _Policy,
    "chains": _Chains,
    "ratios": _Ratios,
    "verifiers": _Search,
}


@dataclasses.dataclass(frozen=True)
class _Measured:
    pass_at_1: Any = None
    questions: PositiveInt | None = None
    chains: _Chain | None = None


def read_summary(folder: Path, job: str, advice: str) -> dict[str, Any]:
    """The summary.json of a workdir, as it stands there.

    Args:
        job: what it is shown as: "search", "policy", "chains", "ratios" or "verifiers"; "" for a
            run's alone.
        advice: what to do about a file that is not there.

    Raises:
        UserError: no such file, or one of another shape; names the field.
    """
    path = folder / NAME
    try:
        found = read_json(path, advice)
    except UserError as error:
        raise UserError(f"no {NAME} ({error})") from error
    _check(found, job, str(path), advice)
    return found


def write_summaries(folder: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes what a report shows to `<folder>/summaries.json`, from which it can be drawn again."""
    write_json(folder / ALL, summaries)


def read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """What `write_summaries` wrote.

    Raises:
        UserError: no such file, or one of another shape; names the field.
    """
    advice = "ttc report writes it: run it once more with this --workdir"
    of_study = folder / "report"  # the stage of that name
    if not (folder / ALL).exists() and (of_study / ALL).exists():
        raise UserError(f"{folder}: is no report's workdir; its report is in --workdir={of_study}")
    found = read_json(folder / ALL, advice)
    for job, summary in found.items():
        if job not in _SHAPES:
            raise UserError(f"{folder / ALL}: {job!r} is none of {', '.join(_SHAPES)}; {advice}")
        _check(summary, job, f"{folder / ALL}, {job}", advice)
    return found


def _check(summary: Any, job: str, what: str, advice: str) -> None:
    try:
        check(summary, _SHAPES.get(job, _Measured), what)
    except UserError as error:
        raise UserError(f"{error}; it is no summary of that job: {advice}") from error
