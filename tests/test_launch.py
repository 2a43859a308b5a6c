import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_is_sound(script: Path):
    bash = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert bash.returncode == 0, bash.stderr
    if shutil.which("shellcheck"):
        command = ["shellcheck", "-x", script.relative_to(ROOT)]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the launch scripts and a made environment whose `ttc` prints its call."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    (tools / "ttc").write_text('#!/bin/sh\necho "$@"\n')
    (tools / "ttc").chmod(0o755)
    (tmp_path / ".venv" / "installed-").write_text(f"{tmp_path}\n[project]\n")
    return tmp_path


def quickstart(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", clone / "launch" / "quickstart.sh", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )


def test_second_quickstart_installs_nothing(clone: Path):
    done = quickstart(clone, "--workdir=there", "--config.name=a b")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "run --config=countdown --workdir=runs/quickstart --workdir=there --config.name=a b\n"
    )
    assert done.stderr == ""


@pytest.mark.parametrize("stamp", ["installed-test", "installed-test,torch"])
def test_environment_of_the_tests_serves_the_quickstart(clone: Path, stamp: str):
    (clone / ".venv" / "installed-").rename(clone / ".venv" / stamp)
    assert quickstart(clone).stderr == ""


def test_changed_requirements_are_installed_again(clone: Path):
    with (clone / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    (clone / ".venv" / "bin" / "python").unlink()
    (clone / ".venv" / "bin" / "python").write_text(
        f'#!/bin/sh\ncase "$*" in *install*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    (clone / ".venv" / "bin" / "python").chmod(0o755)
    done = quickstart(clone)
    assert done.returncode == 2
    assert "Installing ttc_jax into .venv" in done.stderr
    assert "the installation failed" in done.stderr
    assert not list((clone / ".venv").glob("installed-*"))


def test_without_python_there_is_one_line(clone: Path, tmp_path_factory):
    shutil.rmtree(clone / ".venv")
    tools = tmp_path_factory.mktemp("tools")
    for tool in ("bash", "cat", "dirname", "basename"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    for environment in ({"PATH": str(tools)}, {"PYTHON": "/no/python"}):
        done = quickstart(clone, **environment)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "is not a Python 3.11" in done.stderr or "no Python 3.11" in done.stderr


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_parity_tests_cannot_be_skipped_where_required(tmp_path: Path, required: str, code: int):
    if required == "1":
        pytest.importorskip("torch")
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_parity.py").write_text(
        "import pytest\n\n@pytest.mark.torch_parity\ndef test_logits():\n    pytest.skip('why')\n\n"
        "@pytest.mark.torch_parity\ndef test_real(data_dir):\n    pass\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TTC_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", tmp_path],
        env={**environment, "TTC_REQUIRE_TORCH": required},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout
    assert ("1 failed, 1 skipped" if code else "2 skipped") in done.stdout
