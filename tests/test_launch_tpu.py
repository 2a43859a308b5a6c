"""The scripts for TPUs, with stand-ins for gcloud, xpk and kubectl that write down their calls."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ttc_jax.models import hub

ROOT = Path(__file__).parents[1]

# Writes its arguments down and gives the next scripted answer of the words that it is called with;
# the last answer is given for ever.
STAND_IN = f"""#!{sys.executable} -IS
import json, os, sys
os.chdir(os.path.dirname(os.path.dirname(sys.argv[0])))
with open("calls", "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=file)
with open("answers") as file:
    answers = json.load(file)
line = " ".join(sys.argv[1:])
for words, left in answers.items():
    if words in line:
        answer = left.pop(0) if len(left) > 1 else left[0]
        with open("answers", "w") as file:
            json.dump(answers, file)
        code, _, text = answer.partition(":") if answer[:1].isdigit() else ("0", "", answer)
        print(text, file=sys.stderr if int(code) else sys.stdout)
        sys.exit(int(code))
"""

NAME, ZONE = 'it\'s a "pod" $(touch no); x', "us-west4-a"
WHERE = ["--quiet", f"--zone={ZONE}"]
QUEUED, VM = (["gcloud", "compute", "tpus", kind] for kind in ("queued-resources", "tpu-vm"))
LOOK = [*QUEUED, "describe", NAME, "--format=value(state.state)", *WHERE]
LOOK_AT_VM = [*VM, "describe", NAME, "--format=value(state)", *WHERE]
CREATE = [
    *[*QUEUED, "create", NAME, f"--node-id={NAME}", "--accelerator-type=v5litepod-16"],
    *["--runtime-version=v2-alpha-tpuv5-lite", "--spot", *WHERE],
]
DELETE = [*QUEUED, "delete", NAME, "--force", *WHERE]
PACK = [
    *["tar", "-czf", "build/launch/ttc_jax.tar.gz", "--exclude=__pycache__", "pyproject.toml"],
    *["README.md", "LICENSE", "ttc_jax", "configs", "launch"],
]
COPY = [*VM, "scp", "build/launch/ttc_jax.tar.gz", f"{NAME}:", "--worker=all", *WHERE]
UNPACK = (
    "mkdir -p ttc_jax && cd ttc_jax && rm -rf ttc_jax configs launch && "
    "tar -xzf ../ttc_jax.tar.gz && bash launch/worker.sh setup"
)
STATUS = (
    "if [ -f ttc_jax/launch/worker.sh ]; then bash ttc_jax/launch/worker.sh status; "
    'else echo "worker ${HOSTNAME##*-w-}: new"; fi'
)
CONFIG = "configs/tpu.py:qwen2.5-1.5b,v5e-16"
FIELDS = ["--config.task.path=/data/a b.jsonl", '--config.prompt.system=it\'s "$HOME"; x\n`id`']
TTC = ["run", "--hosts=auto", f"--config={CONFIG}", "--workdir=gs://bucket/a b", *FIELDS]
START = shlex.join(["bash", "ttc_jax/launch/worker.sh", "start", *TTC])
FLAGS = [f"--name={NAME}", f"--zone={ZONE}", "--interval=0"]
RUN_FLAGS = [f"--config={CONFIG}", "--workdir=gs://bucket/a b", *FIELDS]
TYPE = ["--type=v5e-16", "--spot"]


def on_workers(line: str) -> list[str]:
    return [*VM, "ssh", NAME, "--worker=all", f"--command={line}", *WHERE]


SETUP = [COPY, on_workers(UNPACK)]


def words(line: str) -> list[str]:
    """The words that bash reads in a line."""
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True
    )
    return printed.stdout.split("\0")[:-1]


def normal(call: list[str]) -> list[str]:
    """A call whose line for the workers is quoted as `START` is, if it holds the same words."""
    starts = "--command=bash ttc_jax/launch/worker.sh start"
    return [
        f"--command={shlex.join(words(x.partition('=')[2]))}" if x.startswith(starts) else x
        for x in call
    ]


def printed(done: subprocess.CompletedProcess) -> list[list[str]]:
    """The calls that a dry run shows."""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return [normal(words(line)) for line in lines]


class Stage:
    """A copy of the repository, and a PATH that holds the stand-ins."""

    def __init__(self, folder: Path):
        self.folder = folder
        for part in ("launch", "configs"):
            shutil.copytree(ROOT / part, folder / part)
        for part in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / part, folder)
        (folder / "ttc_jax").mkdir()
        (folder / "bin").mkdir()
        for tool in ("gcloud", "xpk", "kubectl"):
            (folder / "bin" / tool).write_text(STAND_IN)
            (folder / "bin" / tool).chmod(0o755)

    def run(
        self,
        script: str,
        *arguments: str,
        answers: Mapping[str, list[str]] | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess:
        (self.folder / "answers").write_text(json.dumps(answers or {}))
        (self.folder / "calls").write_text("")
        path = environment.pop("PATH", "") or f"{self.folder / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", self.folder / "launch" / script, *arguments],
            env={"PATH": path, "HOME": str(self.folder / "home"), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def calls(self) -> list[list[str]]:
        return [normal(json.loads(x)) for x in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "a b")


def test_create_waits_until_the_tpu_is_ready(stage: Stage):
    answers = {
        "queued-resources describe": ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"],
        "tpu-vm describe": ["CREATING", "READY"],
    }
    extra = ["--", "--network=my net", "--internal-ips"]
    done = stage.run("tpu_vm.sh", "create", *FLAGS, *TYPE, *extra, answers=answers)
    assert done.returncode == 0, done.stderr
    seen = [*[LOOK] * 3, LOOK_AT_VM, LOOK, LOOK_AT_VM]
    assert stage.calls == [[*CREATE, *extra[1:]], *seen]
    states = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert states == ["WAITING_FOR_RESOURCES", "PROVISIONING", "CREATING", "READY"]


def test_create_ends_where_the_request_fails(stage: Stage):
    answers = {"queued-resources describe": ["ACCEPTED", "FAILED"]}
    done = stage.run("tpu_vm.sh", "create", *FLAGS, *TYPE, answers=answers)
    assert done.returncode == 1
    assert "is FAILED, so the TPU did not come: delete it" in done.stderr
    assert stage.calls == [CREATE, LOOK, LOOK]


@pytest.mark.parametrize(
    ("kind", "version"),
    [("v6e-8", "v2-alpha-tpuv6e"), ("v5p-8", "v2-alpha-tpuv5"), ("v4-8", "tpu-ubuntu2204-base")],
)
def test_image_follows_the_type(stage: Stage, kind: str, version: str):
    done = stage.run(
        "tpu_vm.sh", "create", "--dry-run", *FLAGS, TTC_TPU_TYPE=kind, TTC_TPU_PROJECT="p q"
    )
    made = printed(done)[0]
    assert f"--accelerator-type={kind}" in made
    assert f"--runtime-version={version}" in made
    assert "--project=p q" in made
    assert "--spot" not in made


def test_setup_copies_the_code_and_the_token(stage: Stage):
    (stage.folder / "my token").write_text("secret")
    done = stage.run("tpu_vm.sh", "setup", *FLAGS, "--token=my token")
    assert done.returncode == 0, done.stderr
    token = [*VM, "scp", "my token", f"{NAME}:hf_token", "--worker=all", *WHERE]
    assert stage.calls == [COPY, token, on_workers(UNPACK)]
    packed = subprocess.run(
        ["tar", "-tzf", stage.folder / "build/launch/ttc_jax.tar.gz"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"pyproject.toml", "launch/worker.sh", "configs/tpu.py"} <= set(packed)
    assert not [name for name in packed if "token" in name or "build" in name]


def test_run_reaches_all_workers_with_every_word_whole(stage: Stage):
    done = stage.run("tpu_vm.sh", "run", *FLAGS, *RUN_FLAGS)
    assert done.returncode == 0, done.stderr
    assert stage.calls == [on_workers(START)]
    assert not (stage.folder / "no").exists()


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_workers_are_told(stage: Stage, command: str):
    assert stage.run("tpu_vm.sh", command, *FLAGS).returncode == 0
    assert stage.calls == [on_workers(f"bash ttc_jax/launch/worker.sh {command}")]


def test_delete(stage: Stage):
    assert stage.run("tpu_vm.sh", "delete", *FLAGS).returncode == 0
    assert stage.calls == [DELETE]


def test_status_asks_workers_only_where_there_are_any(stage: Stage):
    answers = {"queued-resources describe": ["1:ERROR: (gcloud) NOT_FOUND: no such resource"]}
    done = stage.run("tpu_vm.sh", "status", *FLAGS, answers=answers)
    assert (done.returncode, done.stdout) == (0, f"{NAME}: ABSENT\n")
    assert stage.calls == [LOOK]

    answers = {
        "queued-resources describe": ["ACTIVE"],
        "tpu-vm describe": ["READY"],
        "tpu-vm ssh": ["worker 0: running: 7/500"],
    }
    done = stage.run("tpu_vm.sh", "status", *FLAGS, answers=answers)
    assert done.stdout == f"{NAME}: READY\nworker 0: running: 7/500\n"
    assert stage.calls == [LOOK, LOOK_AT_VM, on_workers(STATUS)]

    answers = {"queued-resources describe": ["1:ERROR: not logged in"]}
    done = stage.run("tpu_vm.sh", "status", *FLAGS, answers=answers)
    assert (done.returncode, done.stderr) == (1, "ERROR: not logged in\n")


def test_watch_begins_from_nothing_and_outlives_a_preemption(stage: Stage):
    report = "worker 0: {}\nworker 1: {}"
    answers = {
        "queued-resources describe": [
            *["1:NOT_FOUND", "ACTIVE", "ACTIVE", "ACTIVE"],
            *["1:NOT_FOUND", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE"],
        ],
        "tpu-vm describe": ["READY", "READY", "PREEMPTED", "READY", "READY", "READY"],
        "worker.sh status": [
            report.format("new", "new"),
            report.format("running: 3/500", "running: 4/500"),
            report.format("new", "new"),
            report.format("running: 499/500", "finished: done"),
            report.format("finished: summary", "finished: done"),
        ],
    }
    done = stage.run("tpu_vm.sh", "watch", *FLAGS, *TYPE, *RUN_FLAGS, answers=answers)
    assert done.returncode == 0, done.stderr
    look, ask_workers = [LOOK, LOOK_AT_VM], on_workers(STATUS)
    begin = [LOOK, CREATE, *look, ask_workers, *SETUP, on_workers(START)]
    assert stage.calls == [
        *[*begin, *look, ask_workers],  # it runs
        *[*look, DELETE],  # it was preempted
        *[*begin, *look, ask_workers, *look, ask_workers],  # it runs again, and finishes
    ]
    assert done.stdout.splitlines()[-2:] == [
        "worker 0: finished: summary",
        "worker 1: finished: done",
    ]
    assert "PREEMPTED" in done.stderr


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_watch_replaces_a_request_that_ended(stage: Stage, state: str):
    answers = {
        "queued-resources describe": [state, "1:NOT_FOUND", "ACTIVE"],
        "tpu-vm describe": ["READY"],
        "worker.sh status": ["worker 0: new", "worker 0: finished: x"],
    }
    done = stage.run("tpu_vm.sh", "watch", *FLAGS, *TYPE, *RUN_FLAGS, answers=answers)
    assert done.returncode == 0, done.stderr
    assert stage.calls[:4] == [LOOK, DELETE, LOOK, CREATE]


def test_watch_starts_again_what_died_but_not_what_the_user_must_mend(stage: Stage):
    answers = {
        "queued-resources describe": ["ACTIVE"],
        "tpu-vm describe": ["READY"],
        "worker.sh status": [
            "worker 0: running: 1/500\nworker 1: running: 1/500",
            "worker 0: failed 2: worker 1 was lost\nworker 1: failed 137: 9/500",
            "worker 0: failed 2: ttc: no\nworker 1: failed 2: ttc: no",
        ],
    }
    done = stage.run("tpu_vm.sh", "watch", *FLAGS, *TYPE, *RUN_FLAGS, answers=answers)
    assert done.returncode == 1
    assert done.stderr.endswith("mend what its last lines say, and watch again\n")
    assert done.stdout.endswith("worker 1: failed 2: ttc: no\n")
    assert stage.calls.count(on_workers(START)) == 1


def test_watch_gives_up_after_troubles_in_a_row(stage: Stage):
    answers = {
        "queued-resources describe": ["1:no network", "1:NOT_FOUND"],
        "queued-resources create": ["1:no quota"],
    }
    done = stage.run("tpu_vm.sh", "watch", *FLAGS, *TYPE, *RUN_FLAGS, answers=answers)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "tpu_vm.sh: gave up: the TPU was refused, the last of 5 troubles in a row"
    )
    assert stage.calls.count(CREATE) == 4


ERROR = "1:ERROR: (gcloud.compute.tpus.queued-resources.create) "


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("You do not currently have an active account selected.", "gcloud auth login"),
        ("There was a problem refreshing: ('invalid_grant: Bad Request')", "gcloud auth login"),
        ("The required property [project] is not currently set.", "--project=ID"),
        (
            "PERMISSION_DENIED: Cloud TPU API has not been used in project 7 before",
            "services enable",
        ),
        ("FAILED_PRECONDITION: This API method requires billing to be enabled", "billing account"),
        ("RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepod' has been exceeded. Limit: 0", "no quota"),
        ("RESOURCE_EXHAUSTED: no more capacity in the zone", "no free v5litepod-16 now"),
        ("ALREADY_EXISTS: Requested entity already exists", "exists already"),
        ("PERMISSION_DENIED: Permission denied on 'locations/moon1-a'", "locations list"),
        ("INVALID_ARGUMENT: Accelerator type v5litepod-16 is not found", "accelerator-types list"),
        ("INVALID_ARGUMENT: Provided runtime version is not valid", "versions list"),
        ("The resource 'projects/p/global/networks/default' was not found", "--network=NAME"),
        ("PERMISSION_DENIED: Permission 'tpu.nodes.create' denied: forbidden", "roles/tpu.admin"),
        ("argument: Invalid choice: 'queued-resources'.", "components update"),
        ("HTTPSConnectionPool: Max retries exceeded with url", "does not reach Google Cloud"),
        ("UNAVAILABLE: The service is currently unavailable.", "no free v5litepod-16 now"),
        ("INTERNAL: an internal error has occurred", "try again"),
        (
            "NOT_FOUND: Resource 'projects/p/locations/us-west4-a/nodes/n' was not found",
            "create it",
        ),
        ("The SSH key has not propagated to the worker yet", "SSH key"),
        ("scp: hf_token: Permission denied", "may not write or read that file"),
    ],
)
def test_what_gcloud_says_becomes_one_line(stage: Stage, raw: str, said: str):
    answers = {"queued-resources create": [ERROR + raw]}
    done = stage.run("tpu_vm.sh", "create", *FLAGS, *TYPE, answers=answers)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("tpu_vm.sh: ")
    assert done.stderr.count("\n") == 1


def test_the_name_of_a_project_says_nothing(stage: Stage):
    project = "--project=billing-networks"
    raw = "PERMISSION_DENIED: Permission denied on resource project billing-networks"
    answers = {"queued-resources create": [ERROR + raw]}
    done = stage.run("tpu_vm.sh", "create", *FLAGS, *TYPE, project, answers=answers)
    assert "roles/tpu.admin" in done.stderr


def test_what_is_not_known_is_shown_as_it_is(stage: Stage):
    answers = {"queued-resources create": ["1:ERROR: it rains"]}
    done = stage.run("tpu_vm.sh", "create", *FLAGS, *TYPE, answers=answers)
    assert (done.returncode, done.stderr) == (1, "ERROR: it rains\n")


def test_errors_of_the_workers_are_theirs_and_those_of_ssh_explained(stage: Stage):
    answers = {"tpu-vm ssh": ["1:worker.sh: the file was not found"]}
    done = stage.run("tpu_vm.sh", "stop", *FLAGS, answers=answers)
    assert (done.returncode, done.stderr) == (1, "worker.sh: the file was not found\n")
    answers = {"tpu-vm ssh": ["1:user@10.0.0.1: Permission denied (publickey)."]}
    done = stage.run("tpu_vm.sh", "stop", *FLAGS, answers=answers)
    assert done.returncode == 1
    assert "ssh-add ~/.ssh/google_compute_engine" in done.stderr.splitlines()[-1]


def test_watch_ends_at_what_no_waiting_mends(stage: Stage):
    answers = {
        "queued-resources describe": ["1:NOT_FOUND"],
        "queued-resources create": ["1:ERROR: Cloud TPU API has not been used in project 7"],
    }
    done = stage.run("tpu_vm.sh", "watch", *FLAGS, *TYPE, *RUN_FLAGS, answers=answers)
    assert done.returncode == 1
    assert stage.calls == [LOOK, CREATE]
    assert "gcloud services enable tpu.googleapis.com" in done.stderr


MODELS = ["--models=gs://bucket/m", "--model=Qwen/Qwen2.5-1.5B-Instruct", "--model=a/b"]


def test_weights_are_copied_by_one_worker(stage: Stage):
    done = stage.run("tpu_vm.sh", "weights", *FLAGS, *MODELS)
    assert done.returncode == 0, done.stderr
    line = "bash ttc_jax/launch/worker.sh weights gs://bucket/m Qwen/Qwen2.5-1.5B-Instruct a/b"
    assert stage.calls == [[*VM, "ssh", NAME, "--worker=0", f"--command={line}", *WHERE]]
    done = stage.run("tpu_vm.sh", "run", *FLAGS, *RUN_FLAGS, MODELS[0])
    start = shlex.join(["bash", "ttc_jax/launch/worker.sh", "start", MODELS[0], *TTC])
    assert stage.calls == [on_workers(start)]


def test_fetch_copies_results_and_draws_figures(stage: Stage):
    tools = stage.folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    (tools / "ttc").write_text('#!/bin/sh\necho "ttc $*"\n')
    (tools / "ttc").chmod(0o755)
    project = (stage.folder / "pyproject.toml").read_text()
    (stage.folder / ".venv" / "installed-").write_text(f"{stage.folder}\n{project}")
    (stage.folder / "runs/x y/report").mkdir(parents=True)
    (stage.folder / "runs/x y/report/summaries.json").touch()
    flags = [*FLAGS, "--workdir=gs://bucket/a b", "--to=runs/x y"]
    done = stage.run("tpu_vm.sh", "fetch", *flags)
    assert done.returncode == 0, done.stderr
    copy = ["gcloud", "storage", "rsync", "--recursive", "gs://bucket/a b", "runs/x y"]
    assert stage.calls == [copy]
    assert done.stdout.splitlines() == [
        "ttc plot --workdir=runs/x y/report",
        "results: runs/x y",
    ]
    answers = {"storage": ["1:ERROR: (gcloud.storage.rsync) gs://bucket not found: 404 bucket"]}
    done = stage.run("tpu_vm.sh", "fetch", *flags, answers=answers)
    assert done.returncode == 1
    assert "gcloud storage ls gs://bucket/a b" in done.stderr


@pytest.mark.parametrize("command", ["create", "setup", "run", "status", "logs", "stop", "delete"])
def test_dry_run_prints_what_would_be_called_and_calls_nothing(stage: Stage, command: str):
    answers = {"queued-resources describe": ["ACTIVE"], "tpu-vm describe": ["READY"]}
    flags = [*FLAGS, *TYPE, *RUN_FLAGS]
    stage.run("tpu_vm.sh", command, *flags, answers=answers)
    calls = stage.calls
    done = stage.run("tpu_vm.sh", command, *flags, "--dry-run", answers=answers)
    assert done.returncode == 0, done.stderr
    assert stage.calls == []
    assert [call for call in printed(done) if call != PACK] == calls


def test_dry_run_of_watch_shows_all_that_it_may_do(stage: Stage):
    done = stage.run("tpu_vm.sh", "watch", *FLAGS, *TYPE, *RUN_FLAGS, "--dry-run")
    run = [PACK, *SETUP, on_workers(START), on_workers(STATUS)]
    assert printed(done) == [LOOK, LOOK_AT_VM, CREATE, *run, DELETE]
    assert stage.calls == []


RUN = ["run", "--name=n", "--zone=z"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "unknown command ''"),
        (["destroy"], "unknown command 'destroy'"),
        (["logs", "--zone=z"], "--name is missing"),
        (["logs", "--name=n"], "--zone is missing"),
        (["logs", "--name=--all", "--zone=z"], "must not begin with a dash"),
        (["logs", "--name", "n"], "unknown argument --name"),
        (["create", "--name=n", "--zone=z"], "--type is missing"),
        (["create", "--name=n", "--zone=z", "--type=v9-8"], "name it with --version"),
        (["watch", "--name=n", "--zone=z", "--type=v6e-8"], "--config is missing"),
        ([*RUN, "--config=configs/no.py:x", "--workdir=/w"], "there is no file configs/no.py"),
        ([*RUN, "--config=no:x", "--workdir=/w"], "there is no file configs/no.py"),
        ([*RUN, "--config=/tmp/x.py", "--workdir=/w"], "must be a file in configs/"),
        ([*RUN, "--config=math:study"], "--workdir is missing"),
        ([*RUN, "--config=configs/math.py"], "--workdir is missing"),
        ([*RUN, "--config=configs/math.py", "--workdir=runs/x"], "must be gs://BUCKET/FOLDER"),
        (["delete", "--name=n", "--zone=z", "--", "--async"], "are for create and watch: --async"),
        (["setup", "--name=n", "--zone=z", "--token=no"], "--token=no: no such file"),
        (["create", "--name=n", "--zone=z", "--type=v6e-8", "--interval=1m"], "whole seconds"),
        (["weights", "--name=n", "--zone=z", "--model=a/b"], "--models is missing"),
        (["weights", "--name=n", "--zone=z", "--models=/m"], "--model is missing"),
        (["weights", "--name=n", "--zone=z", "--models=/m", "--model=b; x"], "ORGANISATION/NAME"),
        (["weights", "--name=n", "--zone=z", "--models=m", "--model=a/b"], "--models=m: must be"),
        (["fetch", "--name=n", "--zone=z", "--workdir=gs://b/x"], "--to is missing"),
        (["fetch", "--name=n", "--zone=z", "--to=x"], "must be the gs://BUCKET/FOLDER of a run"),
    ],
)
def test_bad_input_is_one_line(stage: Stage, arguments: list[str], said: str):
    done = stage.run("tpu_vm.sh", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert stage.calls == []


@pytest.mark.parametrize("script", ["tpu_vm.sh", "xpk.sh"])
def test_help(stage: Stage, script: str):
    done = stage.run(script, "--help")
    assert done.returncode == 0
    assert f"bash launch/{script} COMMAND" in done.stdout
    assert "set -euo" not in done.stdout
    assert stage.run(script, "run", "--help").stdout == done.stdout


XPK = ["--name=w", "--cluster=c d", f"--zone={ZONE}", "--project=p"]
XPK_WHERE = ["--cluster=c d", f"--zone={ZONE}", "--project=p"]


def test_xpk_submits_a_workload(stage: Stage):
    arguments = [*XPK, "--type=v6e-256", f"--config={CONFIG}", "--workdir=/results/a b", *FIELDS]
    done = stage.run("xpk.sh", "run", *arguments, "--", "--spot", "--priority=high")
    assert done.returncode == 0, done.stderr
    [call] = stage.calls
    [line] = [word for word in call if word.startswith("--command=")]
    assert [word for word in call if word != line] == [
        *["xpk", "workload", "create", "--workload=w", *XPK_WHERE, "--tpu-type=v6e-256"],
        *["--max-restarts=50", "--base-docker-image=python:3.12"],
        *["--script-dir=build/launch/image", "--spot", "--priority=high"],
    ]
    setup, ttc = line.removeprefix("--command=").split(" && ", 1)
    assert setup == "bash launch/worker.sh setup"
    assert "\n" not in ttc  # XPK puts it into a line of YAML
    assert words(ttc) == [
        *["bash", "launch/worker.sh", "run", "run", "--hosts=auto", f"--config={CONFIG}"],
        *["--workdir=/results/a b", *FIELDS],
    ]
    image = stage.folder / "build/launch/image"
    assert (image / "launch/worker.sh").is_file()
    assert not (image / "build").exists()


def test_xpk_status_logs_and_delete(stage: Stage):
    assert stage.run("xpk.sh", "status", *XPK).returncode == 0
    assert stage.calls == [["xpk", "workload", "list", "--filter-by-job=w", *XPK_WHERE]]
    assert stage.run("xpk.sh", "delete", *XPK).returncode == 0
    assert stage.calls == [["xpk", "workload", "delete", "--workload=w", "--force", *XPK_WHERE]]
    assert stage.run("xpk.sh", "logs", *XPK).returncode == 0
    credentials, logs = stage.calls
    assert credentials == [
        *["gcloud", "container", "clusters", "get-credentials", "c d", "--location=us-west4"],
        "--project=p",
    ]
    assert logs[:3] == ["kubectl", "logs", "--follow"]
    assert logs[-1] == "--selector=jobset.sigs.k8s.io/jobset-name=w"


def test_xpk_dry_run_and_bad_input(stage: Stage):
    flags = [*XPK, "--type=v5e-16", "--config=configs/math.py"]
    done = stage.run("xpk.sh", "run", *flags, "--workdir=/results/x", "--dry-run")
    assert stage.calls == []
    assert "--tpu-type=v5litepod-16" in printed(done)[-1]
    for arguments, said in (
        (["run", *flags, "--workdir=gs://bucket/x"], "must be an absolute path"),
        (["run", *XPK, "--config=configs/math.py"], "--type is missing"),
        (["logs", "--name=w", "--zone=z"], "--cluster is missing"),
        (["delete", *XPK, "--", "--spot"], "are for run: --spot"),
        (["watch"], "unknown command 'watch'"),
    ):
        done = stage.run("xpk.sh", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.fixture
def worker(stage: Stage) -> Iterator[Stage]:
    """The folder on a worker, with a `ttc` that prints its call and does as it is told."""
    tools = stage.folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "ttc").write_text(
        '#!/bin/bash\nprintf "<%s>" "$@"\nprintf "\\n1/2\\r2/2\\r"\n'
        'case "$*" in *sleep*) sleep 30 ;; *fail*) exit 2 ;; esac\n'
    )
    (tools / "ttc").chmod(0o755)
    yield stage
    stage.run("worker.sh", "stop")


def state_of(worker: Stage, not_yet: str) -> str:
    """What a worker says of itself once that has changed."""
    said = ""
    for _ in range(200):
        said = worker.run("worker.sh", "status", HOSTNAME="t1v-n-1a-w-7").stdout
        if not said.startswith(f"worker 7: {not_yet}"):
            break
        time.sleep(0.05)
    return said


def test_worker_runs_in_the_background_and_tells_how_it_went(worker: Stage):
    assert state_of(worker, "running") == "worker 7: new\n"
    done = worker.run("worker.sh", "start", *TTC[:3], "--workdir=/w", FIELDS[1])
    assert done.returncode == 0, done.stderr
    assert state_of(worker, "running") == "worker 7: finished: 2/2\n"
    log = (worker.folder / "runs/worker/log").read_text()
    assert log.startswith(f"<run><--hosts=auto><--config={CONFIG}><--workdir=/w><{FIELDS[1]}>\n")

    worker.run("worker.sh", "start", "fail")
    assert state_of(worker, "running") == "worker 7: failed 2: 2/2\n"


def test_worker_runs_one_thing_and_stops_it(worker: Stage):
    began = worker.run("worker.sh", "start", "sleep")
    assert began.returncode == 0, began.stderr
    assert state_of(worker, "new").startswith("worker 7: running:")
    again = worker.run("worker.sh", "start", "sleep", HOSTNAME="t1v-n-1a-w-7")
    assert again.returncode == 2
    assert again.stderr == "worker.sh: worker 7 is running something already: stop it first\n"
    assert worker.run("worker.sh", "stop").returncode == 0
    assert state_of(worker, "running").startswith("worker 7: stopped:")


def test_worker_mounts_the_bucket_that_results_go_to(worker: Stage):
    gcsfuse = worker.folder / "bin" / "gcsfuse"
    gcsfuse.write_text(STAND_IN)
    gcsfuse.chmod(0o755)
    paths = ["--workdir=gs://bucket/a b", "--config.generator.path=gs://bucket/m", "--x=gs://y"]
    done = worker.run("worker.sh", "run", "run", *paths)
    gs = worker.folder / "home" / "gs"
    assert done.stdout.splitlines()[0] == (
        f"<run><--workdir={gs}/bucket/a b><--config.generator.path={gs}/bucket/m><--x=gs://y>"
    )
    call = worker.calls[0]
    assert (call[0], call[-2:]) == ("gcsfuse", ["bucket", str(gs / "bucket")])
    assert "--metadata-cache-ttl-secs=0" in call
    done = worker.run(
        "worker.sh", "run", "--workdir=gs://bucket/x", answers={"bucket": ["1:no access"]}
    )
    assert done.returncode == 2
    assert "gs://bucket could not be mounted" in done.stderr


def test_worker_copies_models_once_and_a_run_looks_at_them(worker: Stage):
    program = worker.folder / ".venv" / "bin" / "hf"
    program.write_text(
        '#!/bin/bash\ncase "$2" in */gone) exit 1 ;; esac\n'
        'mkdir -p "$5/.cache"; echo "$2" >"$5/config.json"; echo "hf $*" >>calls\n'
    )
    program.chmod(0o755)
    models = worker.folder / "models"
    first, second = (worker.run("worker.sh", "weights", str(models), "org/name") for _ in range(2))
    assert (first.returncode, first.stdout) == (0, f"{models}/org/name\n"), first.stderr
    assert second.stderr == f"org/name is in {models} already\n"
    assert sorted(x.name for x in (models / "org/name").iterdir()) == ["config.json"]
    done = worker.run("worker.sh", "weights", str(models), "org/gone")
    assert done.returncode == 2
    assert "org/gone could not be downloaded" in done.stderr
    assert not (models / "org/gone").exists()

    ttc = worker.folder / ".venv" / "bin" / "ttc"
    ttc.write_text('#!/bin/sh\necho "$TTC_MODELS: $*"\n')
    done = worker.run("worker.sh", "run", "run", f"--models={models}", "--workdir=/w")
    assert done.stdout.splitlines()[0] == f"{models}: run --workdir=/w"


def test_worker_reads_of_models_what_the_library_reads():
    line = (ROOT / "launch/worker.sh").read_text().partition("WANTED=(")[2].partition(")")[0]
    assert tuple(shlex.split(line)) == hub.WANTED


def test_worker_without_python_gets_one(stage: Stage, tmp_path_factory: Any):
    tools = tmp_path_factory.mktemp("tools")
    for tool in ("bash", "sh", "basename", "cat", "chmod", "dirname", "mkdir", "mv", "rm"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    # curl brings an installer, that a uv, and that a Python, which makes the environment.
    python = tools / "found"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *venv*--clear*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;'
        f' *pip*) echo "pip $*" >>calls;; *) exec {sys.executable} "$@";; esac\n'
    )
    python.chmod(0o755)
    (tools / "cp").symlink_to(str(shutil.which("cp")))
    uv = f'#!/bin/sh\necho "uv $*" >>calls\ncase "$2" in find) echo {python};; esac\n'
    (tools / "uv").write_text(uv)
    (tools / "uv").chmod(0o755)
    installer = f'mkdir -p "$UV_UNMANAGED_INSTALL" && cp {tools}/uv "$UV_UNMANAGED_INSTALL/uv"\n'
    (tools / "curl").write_text(f"#!/bin/sh\ncat >runs/worker/install-uv.sh <<'X'\n{installer}X\n")
    (tools / "curl").chmod(0o755)
    home = stage.folder / "home"
    home.mkdir()
    (home / "hf_token").write_text("secret")
    done = stage.run("worker.sh", "setup", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    calls = (stage.folder / "calls").read_text().splitlines()
    assert calls[:2] == ["uv python install 3.12", "uv python find --managed-python 3.12"]
    assert calls[-1].endswith("--editable .[tpu]")
    token = home / ".cache/huggingface/token"
    assert token.read_text() == "secret"
    assert os.stat(token).st_mode & 0o777 == 0o600
    assert not (home / "hf_token").exists()
