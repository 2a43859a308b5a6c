"""The program of a worker that judges programs, each in sandboxed processes of its own.

    python worker.py SECONDS MEGABYTES

Standard input: one JSON object a line: `program`, `tests`, `entry` (the function that is asked
for), `inputs` (lists of encoded arguments), `kind` (see `sandbox`). Standard output: the line
`"ready"`, then `{"passed": BOOL, "reason": TEXT, "behaviour": [TEXT, ...]}` for each, or
`{"refused": TEXT}` where the system does not allow the isolation.

The program runs in one process, and its tests in another that calls it over pipes. Only the latter
can write the verdict. The program has no way to it: neither the tests nor their answers are in the
program's process, and it can but return values. A third process tells its behaviour: what the
function gives for the inputs, as texts that are not looked into here.
"""

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ttc_jax.tasks.code.sandbox import LIMITS, Limits, Process, Refused, interpreter, start

_INSIDE = Path(__file__).with_name("inside")
_WAITING = 2  # seconds that all may wait for nothing, for each that they may compute
_LONGEST = 100  # seconds of the clock for each, whatever happens
_TICK = 0.2  # seconds between two looks at whether they wait
_MOST = 4 << 20  # bytes of all replies


class _Run:
    """Sandboxed processes that work on one program, ended together."""

    def __init__(self, kind: str, limits: Limits) -> None:
        self._kind, self._limits = kind, limits
        self._processes: list[Process] = []
        self._files: list[int] = []
        self._folder = tempfile.mkdtemp(prefix="ttc-code-") if kind == LIMITS else "/"
        if kind == LIMITS:
            os.chmod(self._folder, 0o777)
        self._null = self._opened(os.open(os.devnull, os.O_RDWR))

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()
        for file in self._files:
            os.close(file)
        if self._kind == LIMITS:
            _remove(self._folder)

    def _opened(self, file: int) -> int:
        self._files.append(file)
        return file

    def pipe(self) -> tuple[int, int]:
        """Returns the ends to read and to write."""
        reader, writer = os.pipe()
        return self._opened(reader), self._opened(writer)

    def holding(self, *lines: Any) -> int:
        """Returns a file to read that holds JSON lines."""
        with tempfile.TemporaryFile() as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            file.seek(0)
            return self._opened(os.dup(file.fileno()))

    def start(self, program: str, *files: int) -> None:
        """Starts a file of `inside` with standard input, output and further files."""
        given, taken, *further = files
        numbered = dict(enumerate((given, taken, self._null, *further)))
        command = interpreter(_INSIDE / program)
        found = start(command, numbered, self._kind, self._limits, self._folder)
        self._processes.append(found)

    def close(self, *files: int) -> None:
        """Closes ends that only the started processes need."""
        for file in files:
            self._files.remove(file)
            os.close(file)

    def read(self, file: int) -> bytes:
        """Returns what comes until the end, or until the bytes or the time of waiting are over.

        On a busy machine a process that is ready to compute does not wait, however long that takes:
        the kernel ends it when it has had its time of the processor.
        """
        found, seconds, waited = b"", self._limits.seconds, 0.0
        start = last = time.monotonic()
        while len(found) < _MOST and waited < _WAITING * seconds:
            if select.select([file], [], [], _TICK)[0]:
                if not (part := os.read(file, 1 << 16)):
                    break
                found += part
            now = time.monotonic()
            if now - start > _LONGEST * seconds:
                break
            if now - last >= _TICK:
                waited += _TICK * all(_waits(each.command) for each in self._processes)
                last = now
        return found


def judge(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Returns the reply to a request."""
    try:
        behaviour = _behaviour(request, limits) if request["inputs"] else []
        if not request["tests"]:
            return {"passed": False, "reason": "no tests", "behaviour": behaviour}
        reason = _failure(request, limits)
        return {"passed": not reason, "reason": reason, "behaviour": behaviour}
    except Refused as error:
        return {"refused": str(error)}


def _failure(request: dict[str, Any], limits: Limits) -> str:
    """Returns why the tests fail; "" where they pass."""
    with _Run(request["kind"], limits) as run:
        asked, asks = run.pipe()
        told, tells = run.pipe()
        verdict, judges = run.pipe()
        lines = run.holding([request[name] for name in ("tests", "program", "entry")])
        run.start("program.py", asked, tells)
        run.start("tests.py", lines, judges, asks, told)
        run.close(asked, asks, told, tells, judges)
        try:
            match json.loads(run.read(verdict)):
                case ["passed"]:
                    return ""
                case ["failed", str(reason)]:
                    return reason or "failed"
        except ValueError:
            pass
        return "over the bounds"


def _behaviour(request: dict[str, Any], limits: Limits) -> list[str]:
    """Returns what the function gives for each input; fewer texts where the program ends before."""
    with _Run(request["kind"], limits) as run:
        told, tells = run.pipe()
        asked = [["behave", request["entry"], given] for given in request["inputs"]]
        run.start("program.py", run.holding(request["program"], *asked), tells)
        run.close(tells)
        replies = run.read(told)
    lines = [line for line in replies.splitlines(keepends=True) if line.endswith(b"\n")]
    return [line.decode("utf-8", "replace").strip() for line in lines]


def _waits(process: int) -> bool:
    """Whether a process neither computes nor is about to; so does one that cannot be looked at."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return True
    return state.split()[0] not in ("R", "D")


def _remove(folder: str) -> None:
    """Removes a folder, whatever rights its own ones have been given."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            if not os.path.islink(os.path.join(place, name)):
                os.chmod(os.path.join(place, name), 0o700)
    os.chmod(folder, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serves requests until standard input ends."""
    limits = Limits(float(sys.argv[1]), int(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM):  # which a group gets: the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(judge(json.loads(line), limits)), flush=True)


if __name__ == "__main__":
    main()
