"""A bit that a disk has flipped is seen, or changes nothing of what is read."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ttc_jax import files
from ttc_jax.assets import locate
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models import parameters
from ttc_jax.results.store import Candidate, Node, Record, ResultsStore
from ttc_jax.training.checkpoints import Checkpoints, Progress
from ttc_jax.verifiers.probe import load_probe

TRIES = 3000


class Made:
    """What records were made with."""

    @property
    def digests(self) -> Mapping[str, str]:
        return {"config": "0123456789abcdef", "task.path": "fedcba9876543210"}


def record(index: int) -> Record:
    one = Candidate((5, 600, 2), "1+1=2\n[2] \ud800 JJ**", True, -0.1, (0.25, 1 / 3), "2", True)
    other = Candidate((7,), "", False, -12.5e-7, (), None, False, (0.5,))
    tree = (Node(-1, 0, "a", 1 / 3, None), Node(0, 1, "b", None, 1))
    ledger = Ledger(1, 2, 3, 0, 4, 5, 6)
    return Record(f"q/{index}", "beam", 2, 0, (one, other), ledger, "2", 0.5, 0.1, 1, tree)


def silent(path: Path, flip: int, read: Callable[[], Any], expected: Any) -> str:
    """How the flip of a bit of a file was passed over; "" where it was not."""
    change(path, flip)
    try:
        return "" if read() == expected else f"{path.name}: bit {flip} was read as another value"
    except UserError as error:
        named = path.name in str(error) and "\n" not in str(error)
        return "" if named else f"{path.name}: bit {flip}: {error}"
    finally:
        change(path, flip)


def change(path: Path, bit: int) -> None:
    """Flips a bit in place: to write a file anew takes a disk longer than all the rest."""
    with path.open("r+b", buffering=0) as file:
        file.seek(bit // 8)
        [byte] = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@pytest.fixture
def store(tmp_path: Path) -> ResultsStore:
    for shard in (0, 1):
        records = [record(4 * shard + index) for index in range(4)]
        ResultsStore(tmp_path, shard, Made()).append(records)
    return ResultsStore(tmp_path)


def test_of_random_flips_in_a_store_none_is_silent(store, tmp_path):
    expected, rng = store.read(), random.Random(0)
    paths = sorted((tmp_path / "results").iterdir())
    found = []
    for _ in range(TRIES):
        path = rng.choice(paths)
        found.append(silent(path, rng.randrange(8 * path.stat().st_size), store.read, expected))
    assert not list(filter(None, found))


def test_of_all_flips_in_one_line_none_is_silent(tmp_path):
    one = Candidate((5,), "J", True, -0.5, (), "2", True)
    store = ResultsStore(tmp_path, claim=Made())
    store.append([Record("q", "beam", 1, 0, (one,), Ledger())])
    [path] = (tmp_path / "results").iterdir()
    expected, bits = store.read(), range(8 * path.stat().st_size)
    assert not list(filter(None, (silent(path, bit, store.read, expected) for bit in bits)))


def test_of_flips_in_a_compressed_store_none_is_silent(store, tmp_path):
    expected, rng = store.read(), random.Random(1)
    for path in list((tmp_path / "results").iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert store.read() == expected
    path = tmp_path / "results" / "00001.jsonl.gz"
    bits = [rng.randrange(8 * path.stat().st_size) for _ in range(1000)]
    assert not list(filter(None, (silent(path, bit, store.read, expected) for bit in bits)))


def test_a_damaged_end_is_not_cut_off_as_a_torn_one(store, tmp_path):
    path = tmp_path / "results" / "00001.jsonl"
    whole = path.read_bytes()
    for bit in range(8):
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1 << bit]))
        before = path.read_bytes()
        with pytest.raises(UserError, match=r"00001\.jsonl.*damaged"):
            ResultsStore(tmp_path, 1).append([record(9)])
        assert path.read_bytes() == before
    path.write_bytes(whole[:-1])  # as a kill may leave it: the line was not whole
    assert len(store.read()) == 7


def test_lines_of_older_versions_are_read_beside_others(store, tmp_path):
    expected = store.read()
    path = tmp_path / "results" / "00000.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:2]:
        del row["crc32"], row["made_with"]
    lines = path.read_bytes().splitlines(keepends=True)
    older = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows[:2])
    path.write_bytes(older.encode() + b"".join(lines[2:]))
    assert store.read() == expected
    # A line that was written anew by other hands says so.
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[2:]))
    with pytest.raises(UserError, match=r"00000\.jsonl:1: not a record .*crc32"):
        store.read()


def test_of_all_flips_in_a_json_file_none_is_silent(tmp_path):
    value = {"seed": 0, "rate": 0.1, "name": "JJ*", "sections": {"a": [1, 2], "b": None, "c": True}}
    path = files.write_json(tmp_path / "config.json", value)
    bits = range(8 * path.stat().st_size)
    found = filter(None, (silent(path, b, lambda: files.read_json(path), value) for b in bits))
    # A checksum under another name is a field more, and no field is another one.
    for line in found:
        bit = int(line.split("bit ")[1].split()[0])
        assert path.read_bytes()[bit // 8 - 12 :].find(b'"checksum"') < 12, line


def test_damaged_files_of_a_model_are_named(tmp_path):
    source, folder, rng = Path(locate("embedded:probe")), tmp_path / "model", random.Random(2)
    shutil.copytree(source, folder)
    files.seal(folder)
    expected = parameters.named(load_probe(str(folder)))
    for path in [x for x in folder.rglob("*") if x.is_file() and x.stat().st_size]:
        whole = path.read_bytes()
        change(path, rng.randrange(8 * len(whole)))
        with pytest.raises(UserError, match=f"{folder}.*{path.name}") as caught:
            load_probe(str(folder))
        assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    found = parameters.named(load_probe(str(folder)))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    lost = folder / "parameters" / "manifest.ocdbt"
    lost.unlink()
    with pytest.raises(UserError, match=r"manifest\.ocdbt: No such file .* copy the folder anew"):
        load_probe(str(folder))


def test_damaged_checkpoints_of_a_training_are_named(tmp_path):
    weights = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32)}
    with Checkpoints(tmp_path, 0) as checkpoints:
        checkpoints.save(Progress(1, 2, 3.0, 3.0), weights, weights)
    rng = random.Random(3)
    for path in [x for x in (tmp_path / "1").rglob("*") if x.is_file() and x.stat().st_size]:
        whole = path.read_bytes()
        change(path, rng.randrange(8 * len(whole)))
        with (
            pytest.raises(UserError, match=rf"{tmp_path}/1.*delete {tmp_path}/1, and the same"),
            Checkpoints(tmp_path, 0) as checkpoints,
        ):
            checkpoints.latest(weights, weights)
        path.write_bytes(whole)
    with Checkpoints(tmp_path, 0) as checkpoints:
        progress, found, _ = checkpoints.latest(weights, weights)
    assert progress == Progress(1, 2, 3.0, 3.0)
    assert np.array_equal(found["w"], weights["w"])
