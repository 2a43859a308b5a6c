r"""The program of a grading worker: it reads answers with math-verify under hard bounds.

It runs as a process of its own (see `ttc_jax.tasks.grading`), started by its file's path, so that
it imports neither this package nor the caller's main module, whose memory would count here.

    python grading_worker.py SECONDS MEGABYTES

Standard input: one JSON list `[gold | null, answer]` a line. Standard output: the line `"ready"`,
then for each request two lines, whether the answer equals the gold one (null without a gold) and
the answer's canonical form (null when it cannot be read). A request that takes more than SECONDS
of the processor's time ends the process: by the kernel's own alarm, not Python's, so that a loop
inside a C function ends too, and so does a worker whose parent is gone. Time spent waiting for a
busy machine does not count, or the same answer would be judged otherwise there.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGPROF, signal.SIG_DFL)

    import math_verify.grader  # noqa: F401  # under the bound, and before "ready"

    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # whatever a parser prints must not end up among the replies
    os.dup2(silence, 2)
    _reply(replies, "ready")
    for line in sys.stdin:
        gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        _reply(replies, None if gold is None else _equal(gold, answer))
        _reply(replies, _canonical(answer))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _reply(replies: Any, value: str | bool | None) -> None:
    print(json.dumps(value), file=replies, flush=True)


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> list[Any]:
    from math_verify import parse

    return parse(text, parsing_timeout=None)  # pyright: ignore[reportArgumentType]


def _equal(gold: str, answer: str) -> bool:
    from math_verify import verify

    # The order matters to math-verify: it judges the second in the form of the first.
    return verify(_parse(f"${gold}$"), _parse(f"\\boxed{{{answer}}}"), timeout_seconds=None)


def _canonical(answer: str) -> str | None:
    """The value of an answer as a string: equal values give equal strings."""
    import sympy
    from math_verify.grader import is_equation, take_first_relation, take_last_relation
    from sympy.logic.boolalg import BooleanAtom

    try:
        # "50%" votes with "50", as math-verify grades it; `k = 5` and `2 + 3 = 5` with "5".
        percentless = re.sub(r"\\?%$", "", answer)
        value = _parse(f"\\boxed{{{percentless}}}")[0]
        if isinstance(value, str):  # no value: math-verify hands back the text
            return None
        if is_equation(value):
            left = take_first_relation(value).lhs
            if left.is_Symbol or left.is_number:
                value = take_last_relation(value).rhs
        value = sympy.nsimplify(value.doit(), rational=True)
        # A truth (`1 < 2`) or a division by zero (`3:00`) says too little to vote with.
        said = not isinstance(value, BooleanAtom) and not value.has(sympy.zoo, sympy.nan)
        return str(value) if said else None
    except Exception:  # whatever a parser of untrusted text raises, MemoryError included
        return None


if __name__ == "__main__":
    main()
