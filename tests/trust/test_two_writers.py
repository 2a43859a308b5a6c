"""One process at a time works in a workdir, and no two share a file that is being written."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ttc_jax import cli, files
from ttc_jax.errors import UserError
from ttc_jax.experiments.workdir import claim_workdir, exclusive
from ttc_jax.files import read_json, write_json
from ttc_jax.results.store import ResultsStore

HOLDER = """
import sys, time
from pathlib import Path
from ttc_jax.files import locked
with locked(Path(sys.argv[1]), "taken"):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("job", ["run", "sweep", "collect", "train", "gather", "judge"])
def test_a_second_job_in_a_workdir_is_refused(tmp_path, job):
    main = importlib.import_module(f"ttc_jax.jobs.{job}").main
    with (
        files.locked(tmp_path / ".lock-00000", "taken"),
        pytest.raises(UserError, match="another process works there; wait .* another --workdir"),
    ):
        main(ConfigDict({"stages": (), "stage": {}}), tmp_path)


def test_of_two_at_once_one_does_the_work(tmp_path):
    begun, go_on, done = threading.Event(), threading.Event(), []

    @exclusive
    def main(config: ConfigDict, workdir: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        done.append(config.name)

    first = threading.Thread(target=main, args=(ConfigDict({"name": "a"}), tmp_path / "w"))
    first.start()
    assert begun.wait(30)
    for _ in range(3):
        with pytest.raises(UserError, match=rf"process {os.getpid()} on "):
            main(ConfigDict({"name": "b"}), tmp_path / "w")
    go_on.set()
    first.join()
    main(ConfigDict({"name": "c"}), tmp_path / "w")
    assert done == ["a", "c"]
    assert not (tmp_path / "w").exists()  # neither wrote anything


def test_the_lock_ends_with_the_process_that_was_killed(tmp_path):
    lock = tmp_path / "w" / ".lock-00000"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(UserError, match=rf"taken \(process {holder.pid} on "),
            files.locked(lock, "taken"),
        ):
            pass
        holder.kill()
    assert lock.exists()
    with files.locked(lock, "taken"):
        pass
    assert not lock.exists()


def test_many_take_turns(tmp_path):
    """However the file of the lock comes and goes, no two hold it."""
    inside, most, lock = [0], [0], tmp_path / "lock"

    def work(_: int) -> None:
        for _ in range(100):
            try:
                with files.locked(lock, "taken"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except UserError:
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1]


def test_two_writers_of_one_file_leave_a_whole_one(tmp_path):
    path = tmp_path / "summary.json"
    values = [{"writer": i, "text": str(i) * 5000} for i in range(8)]

    def work(value: dict) -> None:
        for _ in range(20):
            write_json(path, value)
            assert read_json(path) in values

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, values))
    assert os.listdir(tmp_path) == ["summary.json"]


def test_drafts_of_killed_writers_are_removed_and_others_are_not(tmp_path):
    left = tmp_path / ".summary.json.0123abcd.draft"
    own = (tmp_path / ".summary.json.draft", tmp_path / ".other.json.0123abcd.draft")
    for path in (left, *own):
        path.touch()
    write_json(tmp_path / "summary.json", {})
    assert not left.exists()
    assert all(path.exists() for path in own)


URLS = ["gs://bucket/run", "s3://bucket/run", "hf://x", "file:///tmp/run", "gs:/bucket/run"]


@pytest.mark.parametrize("url", URLS)
def test_a_workdir_in_a_bucket_is_refused(tmp_path, monkeypatch, capsys, url):
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "configs" / "countdown.py"
    assert cli.main(["run", f"--config={config}", f"--workdir={url}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    scheme = url.partition(":")[0]
    assert line.startswith(f"ttc: --workdir={scheme}://")
    assert "must be a folder of this machine; mount the bucket" in line
    for write in (
        lambda: claim_workdir(Path(url), ConfigDict()),
        lambda: write_json(Path(url) / "a.json", {}),
        lambda: ResultsStore(Path(url))._write(b"{}"),
        lambda: exclusive(lambda *_: None)(ConfigDict(), Path(url)),
    )[:: 1 if url[-1] != "x" else 2]:
        with pytest.raises((UserError, OSError)):
            write()
    assert os.listdir(tmp_path) == []


def test_a_colon_in_a_folder_is_no_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(Path("runs/a:b/c.json"), {"x": 1})
    write_json(Path("a:b.json"), {"x": 1})
    assert json.loads(Path("runs/a:b/c.json").read_text())["x"] == 1
