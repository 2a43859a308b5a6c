import errno
import logging
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ttc_jax import __version__, cli, config, logs
from ttc_jax.errors import UserError

CONFIG = '''\
"""Counts.

    ttc count --config=configs/count.py --workdir=runs/count
"""

from ml_collections import ConfigDict

VARIANTS = {"long": "Counts longer."}


def get_config(variant: str = ""):
    return ConfigDict({"until": 100 if variant else 10, "sampling": {"temperature": 1.0}})
'''
JOB = '''\
"""Counts up.

It counts to `until`.
"""


def main(config, workdir):
    ...
'''
ASK = '''\
"""Asks."""


def main(config, workdir=None, question=None):
    ...
'''


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A working directory with a config, and jobs that keep what they are called with.

    The job `count` needs a workdir; `ask` does without, and takes an argument.
    """
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "count.py").write_text(CONFIG)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "count.py").write_text(JOB)
    (tmp_path / "jobs" / "ask.py").write_text(ASK)
    (tmp_path / "jobs" / "_helpers.py").write_text("")
    found: list[tuple] = []
    for name in ("count", "ask"):
        job = types.ModuleType(f"ttc_jax.jobs.{name}")
        job.__dict__["main"] = lambda *arguments: found.append(arguments)
        monkeypatch.setitem(sys.modules, f"ttc_jax.jobs.{name}", job)
    monkeypatch.setattr(cli, "_JOBS", tmp_path / "jobs")
    monkeypatch.setattr(logs, "set_up", lambda: None)
    monkeypatch.setattr(config, "enable_compilation_cache", lambda: None)
    monkeypatch.chdir(tmp_path)
    return found


def run(*argv: str) -> int:
    return cli.main(["count", "--config=configs/count.py", "--workdir=w", *argv])


def raising(error: BaseException):
    def main(*_):
        raise error

    return main


def test_job_gets_config_and_workdir(calls: list):
    assert run("--config.until", "7", "--config.sampling.temperature=0.5") == 0
    [(settings, workdir)] = calls
    assert settings.to_dict() == {"until": 7, "sampling": {"temperature": 0.5}}
    assert workdir == Path("w")


def test_last_argument_counts(calls: list):
    assert run("--workdir=v", "--config=configs/count.py:long", "--config.until=1") == 0
    assert run("--config=configs/count.py:long") == 0
    assert [(settings.until, str(workdir)) for settings, workdir in calls] == [
        (1, "v"),
        (100, "w"),
    ]


def ask(*argv: str) -> int:
    return cli.main(["ask", "--config=configs/count.py", *argv])


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        ([], [None]),
        (["--workdir=w"], [Path("w")]),
        (["what is it?", "--workdir=w"], [Path("w"), "what is it?"]),
        (["--config.until=7", "what?"], [None, "what?"]),
        (["what?", "--config.until", "7"], [None, "what?"]),
        (["--config.until", "7", "what?"], [None, "what?"]),
        (["--config.until=7", "--", "--config.until=8"], [None, "--config.until=8"]),
        (["--config.until=7", "--", "--help"], [None, "--help"]),
        (["--", "--"], [None, "--"]),
        ([""], [None, ""]),
    ],
)
def test_a_job_may_do_without_a_workdir_and_take_an_argument(calls: list, argv, arguments):
    assert ask(*argv) == 0
    [(settings, *found)] = calls
    assert found == arguments
    assert settings.until == (7 if any("until" in x for x in argv) else 10)


def test_help_shows_what_may_be_left_out(calls: list, capsys):
    assert cli.main(["ask", "--help"]) == 0
    assert "ttc ask [QUESTION] --config=NAME[:VARIANT] [--workdir=DIR]" in (capsys.readouterr().out)
    assert cli.main(["count", "--help"]) == 0
    assert "ttc count --config=NAME[:VARIANT] --workdir=DIR" in capsys.readouterr().out
    assert ask("what?", "--help") == 0
    assert "--config.until=10" in capsys.readouterr().out
    assert calls == []


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_names_jobs_configs_and_variants(calls: list, capsys, argv: list[str]):
    assert cli.main(argv) == 0
    text = capsys.readouterr().out
    for part in ("count     Counts up.", "configs/count.py  Counts.", ":long  Counts longer."):
        assert part in text
    assert "_helpers" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_job_help_shows_its_docstring(calls: list, capsys):
    assert cli.main(["count", "--help"]) == 0
    text = capsys.readouterr().out
    assert "It counts to `until`." in text
    assert "ttc count --config=" in text
    assert calls == []


def test_job_help_with_a_config_shows_its_fields(calls: list, capsys):
    assert run("--config.until=3", "--help") == 0
    text = capsys.readouterr().out
    assert "--config.until=3\n" in text
    assert "--config.sampling.temperature=1.0           # 0 takes the most likely token" in text
    assert "runs/count" in text
    assert calls == []


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ttc_jax {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["cuont"], "unknown job 'cuont'; did you mean count?"),
        (["zzz"], "unknown job 'zzz'; jobs: ask, count"),
        (["--workdir=w", "count"], "the job comes first"),
        (["count"], "--config is missing"),
        (["count", "--config=configs/count.py"], "--workdir is missing"),
        (["count", "--config"], "Missing value for flag --config"),
        (
            ["count", "--config=configs/cuont.py", "--workdir=w"],
            "there are code, countdown, gsm8k, judge, math, serve, study, tpu, configs/count.py",
        ),
        (["count", "--config=configs/count.py", "--wrkdir=w"], "did you mean --workdir?"),
        (["count", "--config=configs/count.py", "--workdir=w", "x"], "unexpected argument 'x'"),
        (["ask", "--config=configs/count.py", "x", "y"], "'y': put quotes around"),
        (["ask", "--config=configs/count.py", "-x"], "unknown flag -x"),
        (
            ["count", "--config=configs/count.py", "--workdir=w", "--config.temprature=1"],
            "--config.temprature: unknown field; did you mean --config.sampling.temperature?",
        ),
    ],
)
def test_mistake_is_one_line_and_code_2(calls: list, capsys, argv: list[str], said: str):
    assert cli.main(argv) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert output.err.startswith("ttc: ")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert calls == []


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("while saving")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("data.path: no such file\n  really"), 2, "ttc: data.path: no such file really"),
        (KeyboardInterrupt(), 130, "the same command again continues"),
        (OSError(errno.ENOSPC, "No space left on device", "w/x"), 2, "the disk is full"),
        (wrapped(OSError(errno.EDQUOT, "quota")), 2, "the disk is full"),
        (ValueError("RESOURCE: No space left on device [w]"), 2, "the disk is full"),
    ],
)
def test_what_ends_a_job_in_one_line(
    calls: list, capsys, monkeypatch, error: BaseException, code: int, said: str
):
    monkeypatch.setattr(sys.modules["ttc_jax.jobs.count"], "main", raising(error))
    assert run() == code
    output = capsys.readouterr().err
    assert said in output
    assert output.count("\n") == 1


def test_bug_keeps_its_traceback(calls: list, monkeypatch):
    monkeypatch.setattr(sys.modules["ttc_jax.jobs.count"], "main", raising(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        run()


def test_every_real_job_has_a_docstring():
    for name, job in cli._jobs().items():
        assert job.text, f"the job {name} has no docstring, which is its help"


def test_log_shows_our_messages_and_warnings_of_libraries(monkeypatch, capsys):
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "root", root)
    logs.set_up()
    package = Path(cli.__file__).parent
    for path, level in (
        (str(package / "sampling" / "sampler.py"), logging.INFO),
        ("/site-packages/library/file.py", logging.INFO),
        ("/site-packages/library/file.py", logging.WARNING),
    ):
        root.handle(logging.LogRecord("x", level, path, 1, f"{path} {level}", (), None))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        f"{package}/sampling/sampler.py 20",
        "/site-packages/library/file.py 30",
    ]


def test_threads_that_outlive_orbax_say_nothing():
    told: list = []
    show = logs.unless_closed(told.append)
    closed, other = RuntimeError("Event loop is closed"), RuntimeError("Event loop")
    for error in (closed, other, ValueError("Event loop is closed")):
        show(types.SimpleNamespace(exc_value=error))
    assert [type(what.exc_value) for what in told] == [RuntimeError, ValueError]
    assert told[0].exc_value is other


def test_errors_that_orbax_raises_again_are_not_logged_before(monkeypatch):
    def shown(path: str, name: str, error: Exception | None) -> bool:
        about = (type(error), error, None) if error else None
        return logs._is_shown(logging.LogRecord(name, logging.ERROR, path, 1, "", (), about))

    future, loop = "/x/orbax/checkpoint/_src/futures/future.py", "/python/asyncio/base_events.py"
    full = OSError(errno.ENOSPC, "No space left on device")
    assert not shown(future, "absl", full)
    assert not shown(loop, "asyncio", full)  # "Future exception was never retrieved"
    assert shown(future, "absl", None)
    assert shown("/x/jax/_src/compiler.py", "jax", full)
    monkeypatch.setenv("TTC_DEBUG", "1")
    assert shown(future, "absl", full)


def test_help_imports_neither_jax_nor_jobs(tmp_path: Path):
    code = (
        "import sys; from ttc_jax import cli; cli.main(['--help']); "
        "sys.exit(bool({'jax', 'numpy', 'absl', 'ml_collections'} & set(sys.modules)))"
    )
    root = Path(cli.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
