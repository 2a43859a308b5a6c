"""The comparer of interrupted runs overlooks nothing, and forgives only what it says."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.bench.same import differences
from tests.results.test_store import record
from ttc_jax import files
from ttc_jax.results.store import ResultsStore


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A workdir with a file of each kind."""
    folder = tmp_path_factory.mktemp("workdirs") / "reference"
    ResultsStore(folder).append([record(0), record(1)])
    files.write_json(folder / "summary.json", {"accuracy": 0.5})
    files.write_json(folder / "timing.json", {"seconds": 1.5})
    files.write_json(folder / "stage" / "done.json", {"seconds_of_last_run": 1.5, "config": {}})
    files.write(folder / "accuracy.svg", "<svg/>")
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = {"w": np.arange(3, dtype=np.float32), "b": np.zeros(2, np.float32)}
        checkpointer.save(folder.absolute() / "model" / "parameters", arrays)
    return folder


@pytest.fixture
def copy(reference: Path, tmp_path: Path) -> Path:
    shutil.copytree(reference, tmp_path / "copy")
    return tmp_path / "copy"


def changed(path: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(workdir: Path) -> None:
        data = (workdir / path).read_bytes()
        assert old in data
        (workdir / path).write_bytes(data.replace(old, new, 1))

    return change


def stored(workdir: Path, *, order: int = 1, **changes: Any) -> None:
    """The records anew."""
    shutil.rmtree(workdir / "results")
    for index in (0, 1)[::order]:
        ResultsStore(workdir).append([record(index, **changes)])


def one_bit(workdir: Path) -> None:
    """Changes one bit of one parameter."""
    folder = workdir / "model" / "parameters"
    arrays = ocp.PyTreeCheckpointer().restore(folder)
    arrays["w"] = np.asarray(arrays["w"]).copy()
    arrays["w"].view(np.uint32)[1] ^= 1
    shutil.rmtree(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, arrays)


def test_equal_runs_have_no_differences(reference: Path, copy: Path):
    assert differences(copy, reference) == []
    # What the machine and the moment decide.
    stored(copy, seconds=7.0, order=-1)
    files.write_json(copy / "timing.json", {"seconds": 7.0})
    files.write_json(copy / "stage" / "done.json", {"seconds_of_last_run": 7.0, "config": {}})
    (copy / "tensorboard").mkdir()
    (copy / "tensorboard" / "events").write_bytes(b"x")
    assert differences(copy, reference) == []


CHANGES: dict[str, Callable[[Path], object]] = {
    "summary.json": changed("summary.json", b"0.5", b"0.6"),
    "accuracy.svg": changed("accuracy.svg", b"svg", b"svh"),
    "stage/done.json": changed("stage/done.json", b'"config"', b'"confix"'),
    "results/00000.jsonl": lambda workdir: stored(workdir, level="3"),
    "results cannot be read": changed("results/00000.jsonl", b"q/1", b"q/2"),
    "model/parameters['w']": one_bit,
    "is missing": lambda workdir: (workdir / "accuracy.svg").unlink(),
    ".lock-00000 is left behind": lambda workdir: (workdir / ".lock-00000").touch(),
    "model.partial/ is left behind": lambda workdir: (workdir / ".model.partial").mkdir(),
}


@pytest.mark.parametrize("told", CHANGES)
def test_a_difference_is_told(reference: Path, copy: Path, told: str):
    CHANGES[told](copy)
    lines = differences(copy, reference)
    assert any(told in line for line in lines), lines


def test_every_byte_of_records_and_summaries_counts(copy: Path, tmp_path: Path):
    shutil.rmtree(copy / "model")  # which takes long to read
    reference = tmp_path / "reference"
    shutil.copytree(copy, reference)
    for name in ("results/00000.jsonl", "summary.json"):
        data = (copy / name).read_bytes()
        seconds = data.find(b'"seconds"')
        for at in range(0, len(data), 7):
            if 0 <= at - seconds < 16 or data[at:].startswith(b"crc32"):
                continue
            (copy / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert differences(copy, reference), at
        (copy / name).write_bytes(data)


def test_a_record_that_is_stored_twice_is_told(reference: Path, copy: Path):
    path = copy / "results" / "00000.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    [line] = differences(copy, reference)
    assert line.startswith("results/00000.jsonl differs")
