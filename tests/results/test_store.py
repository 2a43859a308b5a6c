import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.results import store as store_module
from ttc_jax.results.record_lines import encode
from ttc_jax.results.store import Candidate, Node, Record, ResultsStore

NASTY = "x\u2028y\u2029\x85z \ud800 \udfff \x00 \r\n \\n \N{GRINNING FACE}"


def candidate(**changes):
    fixed = Candidate((5, 6, 2), "1+1=2\n[2]", True, -0.1, (0.25, 1 / 3), "2", True)
    return dataclasses.replace(fixed, **changes)


def record(index=0, *candidates, **changes):
    candidates = candidates or (candidate(), candidate(answer=None, correct=False))
    fixed = Record(
        f"q/{index}", "best_of_n", 1, 0, candidates, Ledger(1, 2, 3, 0, 4, 5, 6), "2", 0.5
    )
    return dataclasses.replace(fixed, **changes)


def shard(workdir, number=0):
    return workdir / "results" / f"{number:05d}.jsonl"


def test_what_goes_in_comes_out(tmp_path):
    records = [record(0), record(1, candidate(text=NASTY, answer=NASTY)), record(2, seed=7)]
    store = ResultsStore(tmp_path)
    assert store.read() == []
    assert store.done() == set()
    store.append(records[:2])
    store.append([])
    store.append(records[2:])
    assert ResultsStore(tmp_path).read() == records
    assert ResultsStore(tmp_path).done() == {
        ("q/0", "best_of_n", 1, 0),
        ("q/1", "best_of_n", 1, 0),
        ("q/2", "best_of_n", 1, 7),
    }
    assert shard(tmp_path).read_bytes().isascii()


def test_unboxed_answers_come_back_and_other_lines_are_as_before(tmp_path):
    records = [record(0, candidate(unboxed=True)), record(1)]
    ResultsStore(tmp_path).append(records)
    assert ResultsStore(tmp_path).read() == records
    first, second = shard(tmp_path).read_text().splitlines()
    assert '"unboxed":true' in first
    assert "unboxed" not in second


def test_thoughts_come_back_and_other_lines_are_as_before(tmp_path):
    records = [record(0, candidate(tokens=(3, 4, 5), thought=2)), record(1)]
    ResultsStore(tmp_path).append(records)
    assert ResultsStore(tmp_path).read() == records
    first, second = shard(tmp_path).read_text().splitlines()
    assert '"thought":2' in first
    assert "thought" not in second
    with pytest.raises(UserError, match="thought must be a number of its tokens"):
        ResultsStore(tmp_path).append([record(2, candidate(tokens=(3,), thought=2))])


def test_trees_come_back_and_old_records_have_none(tmp_path):
    tree = (Node(-1, 0, NASTY, 1 / 3, None), Node(0, 1, "", None, 1))
    ResultsStore(tmp_path).append([record(0, tree=tree), record(1)])
    assert [found.tree for found in ResultsStore(tmp_path).read()] == [tree, ()]
    rows = [json.loads(line) for line in shard(tmp_path).read_text().splitlines()]
    for row in rows:
        del row["tree"], row["crc32"]
    shard(tmp_path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [found.tree for found in ResultsStore(tmp_path).read()] == [(), ()]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"parent": 1}, "its parent is 1"),
        ({"parent": -2}, "its parent is -2"),
        ({"candidate": 2}, "its candidate is 2 of 2"),
        ({"score": math.nan}, "score is nan"),
        ({"text": None}, "must be integers, text text"),
    ],
)
def test_a_tree_that_is_none_is_refused(tmp_path, changes, problem):
    nodes = (Node(-1, 0, "a", 0.5, None), dataclasses.replace(Node(0, 1, "b", 0.5, 0), **changes))
    with pytest.raises(UserError, match=f"tree, node 1: .*{problem}"):
        ResultsStore(tmp_path).append([record(0, tree=nodes)])


@given(
    text=st.text(st.characters(exclude_categories=())),
    number=st.floats(allow_nan=False, allow_infinity=False),
)
def test_text_and_floats_come_back_exactly(tmp_path_factory, text, number):
    workdir = tmp_path_factory.mktemp("store")
    stored = record(0, candidate(text=text, answer=text, log_prob=number, step_scores=(number,)))
    stored = dataclasses.replace(stored, question_score=number)
    ResultsStore(workdir).append([stored])
    (back,) = ResultsStore(workdir).read()
    assert back == stored
    assert math.copysign(1, back.candidates[0].log_prob) == math.copysign(1, number)


def test_numpy_values_are_welcome(tmp_path):
    score = np.float32(0.1)
    numpy = candidate(
        tokens=tuple(np.arange(3)),
        finished=np.bool_(True),
        log_prob=score,
        step_scores=tuple(np.array([0.1, 0.2], np.float32)),
    )
    ResultsStore(tmp_path).append([record(0, numpy)])
    (back,) = ResultsStore(tmp_path).read()
    assert back.candidates[0].tokens == (0, 1, 2)
    assert back.candidates[0].log_prob == float(score)


def test_shards_are_read_together_and_repeated_work_counts_once(tmp_path):
    first, again = record(0, seconds=1.0), record(0, seconds=2.0)
    ResultsStore(tmp_path, shard=1).append([again, record(1)])
    ResultsStore(tmp_path, shard=0).append([first])
    assert ResultsStore(tmp_path).read() == [first, record(1)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"log_prob": math.nan}, "candidate 1: log_prob is nan"),
        ({"log_prob": -math.inf}, "candidate 1: log_prob is -inf"),
        ({"step_scores": (0.5, math.nan)}, r"candidate 1: step_scores is \(0.5, nan\)"),
        ({"step_scores": (np.float32("nan"),)}, "candidate 1: step_scores"),
        ({"text": None}, "candidate 1: text and answer must be text"),
        ({"correct": None}, "candidate 1: finished and correct"),
        ({"unboxed": None}, "candidate 1: unboxed must be true or false"),
        ({"tokens": (1.5,)}, "candidate 1: tokens must be integers"),
    ],
)
def test_a_bad_value_is_refused_with_the_question(tmp_path, changes, problem):
    store = ResultsStore(tmp_path)
    store.append([record(0)])
    with pytest.raises(UserError, match=f"question 'q/2': {problem}"):
        store.append([record(1), record(2, candidate(), candidate(**changes))])
    assert store.read() == [record(0)]


def test_every_torn_ending_is_dropped_and_cut_off(tmp_path):
    path = shard(tmp_path)
    store = ResultsStore(tmp_path)
    store.append([record(0)])
    kept = path.read_bytes()
    store.append([record(1, candidate(text=NASTY))])
    whole = path.read_bytes()
    for size in range(len(kept), len(whole)):
        path.write_bytes(whole[:size])
        reopened = ResultsStore(tmp_path)
        assert reopened.read() == [record(0)]
        assert path.stat().st_size == size  # reading changes nothing
        reopened.append([record(2)])
        assert reopened.read() == [record(0), record(2)]


def test_appends_at_the_same_time_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module.os, "write", FullDisk(room=math.inf))

    def work(part):
        for index in range(10):
            ResultsStore(tmp_path).append([record(10 * part + index)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    questions = {record.question for record in ResultsStore(tmp_path).read()}
    assert questions == {f"q/{index}" for index in range(40)}


def test_a_torn_only_line_longer_than_a_block_is_cut_off(tmp_path):
    path = shard(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"x" * 200_000)
    store = ResultsStore(tmp_path)
    assert store.read() == []
    store.append([record(0)])
    assert store.read() == [record(0)]
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    store.append([record(1)])
    assert store.read() == [record(0), record(1)]


def test_a_torn_line_in_another_shard_is_left_alone(tmp_path):
    ResultsStore(tmp_path, shard=1).append([record(1)])
    with shard(tmp_path, 1).open("ab") as file:
        file.write(b'{"question":')
    before = shard(tmp_path, 1).read_bytes()
    ResultsStore(tmp_path, shard=0).append([record(0)])
    assert ResultsStore(tmp_path, shard=0).read() == [record(0), record(1)]
    assert shard(tmp_path, 1).read_bytes() == before


def sound_row():
    row = json.loads(encode(record(0), {}))
    del row["crc32"]
    return row


def altered(**changes):
    return json.dumps(sound_row() | changes).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"[" * 100_000,
        altered(candidates=None),
        altered(candidates=[{}]),
        altered(candidates=[sound_row()["candidates"][0] | {"log_prob": math.nan}]),
        altered(candidates=[sound_row()["candidates"][0] | {"log_prob": "1"}]),
        altered(candidates=[sound_row()["candidates"][0] | {"tokens": "123"}]),
        altered(question=7),
        altered(seed="0"),
        altered(ledger={"generations": 1.5}),
        altered(ledger=[]),
        altered(surprise=1),
        altered(seconds=math.inf),
    ],
)
def test_a_malformed_whole_line_is_named(tmp_path, line):
    store = ResultsStore(tmp_path)
    store.append([record(0), record(1)])
    with shard(tmp_path).open("ab") as file:
        file.write(line + b"\n")
    for read in (store.read, store.done):
        with pytest.raises(UserError, match=r"00000\.jsonl:3: not a record") as caught:
            read()
        assert "\n" not in str(caught.value)


class FullDisk:
    """os.write that takes `room` bytes, in small pieces, and then reports a full disk."""

    def __init__(self, room):
        self.room = room

    def __call__(self, descriptor, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        piece = bytes(data[: int(min(self.room, 40))])
        self.room -= len(piece)
        return self.write(descriptor, piece)

    write = staticmethod(os.write)


@pytest.mark.parametrize("room", [0, 1, 100, 700])
@pytest.mark.parametrize("truncate_fails", [False, True])
def test_a_full_disk_loses_nothing_earlier(tmp_path, monkeypatch, room, truncate_fails):
    store = ResultsStore(tmp_path)
    store.append([record(0)])
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "write", FullDisk(room))
        if truncate_fails:
            real, calls = os.ftruncate, []

            def ftruncate(descriptor, size):
                calls.append(size)
                if len(calls) > 1:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                real(descriptor, size)

            patch.setattr(store_module.os, "ftruncate", ftruncate)
        with pytest.raises(UserError, match="No space left on device; earlier records are safe"):
            store.append([record(1), record(2)])
    missing = [new for new in (record(1), record(2)) if new.key not in store.done()]
    assert missing or truncate_fails
    store.append(missing)
    assert store.read() == [record(0), record(1), record(2)]


def test_data_that_did_not_reach_the_disk_is_not_kept(tmp_path, monkeypatch):
    store = ResultsStore(tmp_path)
    store.append([record(0)])

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "SYNC_SECONDS", 0)
        patch.setattr(store_module.os, "fsync", fsync)
        with pytest.raises(UserError, match="No space left"):
            store.append([record(1)])
    assert store.read() == [record(0)]


def test_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="another --workdir"):
        ResultsStore(tmp_path / "file").append([record(0)])


WRITER = """
import sys
from pathlib import Path
from ttc_jax.compute.ledger import Ledger
from ttc_jax.results.store import Candidate, Node, Record, ResultsStore

store = ResultsStore(Path(sys.argv[1]))
done = store.done()
for index in range(100_000):
    if (f"q/{index}", "best_of_n", 1, 0) not in done:
        text = f"{index}" * 5000
        candidate = Candidate(tuple(range(500)), text, True, -1.0, (0.5,), "2", True)
        store.append([Record(f"q/{index}", "best_of_n", 1, 0, (candidate,), Ledger())])
        print(index, flush=True)
"""


def test_kill_9_while_writing(tmp_path):
    stored = 0
    for lines in (3, 40, 9):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            reported = [int(writer.stdout.readline()) for _ in range(lines)]
            writer.send_signal(signal.SIGKILL)
            reported += [int(line) for line in writer.stdout]
        assert reported[0] == stored
        records = ResultsStore(tmp_path).read()
        questions = [record.question for record in records]
        assert questions == [f"q/{index}" for index in range(len(records))]
        # What was reported is there; a record whose report was lost in the kill may be, too.
        assert reported[-1] + 1 <= len(records) <= reported[-1] + 2
        assert all(r.candidates[0].text == r.question[2:] * 5000 for r in records)
        stored = len(records)
