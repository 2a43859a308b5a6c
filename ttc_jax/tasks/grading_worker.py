r"""The program of a grading worker: it reads answers with math-verify under hard bounds.

It runs as a process of its own (see `ttc_jax.tasks.grading`), started by its file's path, so that
it does not import the caller's main module, whose memory would count here. Of this package it
imports what needs neither jax nor NumPy.

    python grading_worker.py SECONDS MEGABYTES

Standard input: one JSON list `[gold | null, answer]` a line. Standard output: the line `"ready"`,
then for each request two lines, whether the answer equals the gold one (null without a gold) and
the answer's canonical form (null when it has no value, false when that takes too long). A request
that takes more than SECONDS of the processor's time ends the process: by the kernel's own alarm,
not Python's, so that a loop inside a C function ends too, and so does a worker whose parent is
gone. Time spent waiting for a busy machine does not count, or the same answer would be judged
otherwise there.
"""

import functools
import json
import os
import re
import resource
import signal
import sys
from typing import Any


def main() -> None:
    """Serves requests until standard input ends."""
    seconds, megabytes = float(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":  # other kernels do not enforce it
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):  # which a group gets: the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGVTALRM, _stop)

    import ttc_jax.tasks.canonical  # noqa: F401  # under the bound, and before "ready"

    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # whatever a parser prints must not end up among the replies
    os.dup2(silence, 2)
    _reply(replies, "ready")
    for line in sys.stdin:
        gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        # A simplification has a part of the time, so that the verdict is not lost with it.
        _reply(replies, None if gold is None else _equal(gold, answer, seconds / 5))
        _reply(replies, _canonical(answer, seconds / 5))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _reply(replies: Any, value: str | bool | None) -> None:
    print(json.dumps(value), file=replies, flush=True)


def _equal(gold: str, answer: str, seconds: float) -> bool:
    """Whether math-verify takes an answer for the gold one, or both have one canonical form."""
    from ttc_jax.tasks.symbolic import equal

    decided = equal(gold, answer)
    if decided is not None:
        return decided
    key = _canonical(answer, seconds)
    return isinstance(key, str) and key == _canonical(gold, seconds)


@functools.lru_cache(maxsize=256)
def _canonical(answer: str, seconds: float) -> str | bool | None:
    """The value of an answer as a string; None when it has none, False when that takes longer."""
    from ttc_jax.tasks.canonical import canonical
    from ttc_jax.tasks.symbolic import BASE, read

    if BASE.search(answer):
        return None  # `10_2 + 11_2`, as its text
    try:
        # "50%" votes with "50", as math-verify grades it.
        value = read(re.sub(r"\\?%$", "", answer))
        if value is None:
            return None
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            return canonical(value)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _Slow:
        return False
    except Exception:  # whatever untrusted text leads to, MemoryError included
        return None


class _Slow(BaseException):
    """A simplification that takes too long. No `except Exception` of sympy's may catch it."""


def _stop(*_: object) -> None:
    raise _Slow


if __name__ == "__main__":
    main()
