"""Worker processes that do one thing with untrusted input, under hard bounds on time and memory.

A worker is a program of its own and not one of `multiprocessing`'s, which imports the caller's main
module again: with jax in it no worker fits its bound, and a script without a guard starts itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from ttc_jax.errors import UserError

DIED: Final = object()
"""What stands for the reply of a worker that broke its bounds and ended."""


class Worker:
    """One worker process, started when first asked and again after it died. Not thread-safe.

    The process reads one JSON value a line and writes one JSON value a line: "ready" at its start,
    then one reply or more to each request. It ends by itself when a request breaks the bounds.

    Args:
        program: The path of a Python file, which is given the bounds as its two arguments.
        seconds: Bound on the processor's time for one request.
        megabytes: Bound on the address space (enforced on Linux).
        needs: What the program imports, for the error of a process that does not start.
    """

    def __init__(self, program: Path, *, seconds: float, megabytes: int, needs: str) -> None:
        self._program, self._needs = program, needs
        self._bounds = [str(seconds), str(megabytes)]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Any) -> Any:
        """Returns the reply to a request, or `DIED`.

        Raises:
            UserError: The process does not start.
        """
        return self.ask_several(request, 1)[0]

    def ask_several(self, request: Any, replies: int) -> list[Any]:
        """Returns the replies to a request, with `DIED` for those that did not come.

        Args:
            replies: How many the program writes.

        Raises:
            UserError: The process does not start.
        """
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            found = [_read(process) for _ in range(replies)]
        except BrokenPipeError:
            found = [DIED] * replies
        except BaseException:  # Ctrl-C: or the reply would be taken for that to the next request
            self.close()
            raise
        if found[-1] is DIED:
            process.wait()
        return found

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> "subprocess.Popen[str]":
        self.close()
        # By its path and without its folder (-P), which may hold modules with names of others.
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", str(self._program), *self._bounds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
            encoding="ascii",
        )
        if _read(process) != "ready":
            code = process.wait()
            self.close()
            raise UserError(
                f"the process of {self._program.name} ended at its start with code {code}: "
                f"is {self._needs} installed, and is a bound of {self._bounds[1]} MB enough?"
            )
        return process


def _read(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    return json.loads(line) if line.endswith("\n") else DIED
