"""Runs programs in sandboxes (`worker`), several at a time, and says how each has done."""

import os
import queue
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.tasks.code.inside.values import encode
from ttc_jax.tasks.code.sandbox import ISOLATED, KINDS, LIMITS, OFF
from ttc_jax.workers import DIED, Worker

__all__ = ["Executor", "Outcome"]

MOST_KNOWN = 1 << 17
"""Programs that are remembered with what became of them; beyond that all are forgotten."""

_PROGRAM = Path(__file__).with_name("worker.py")
_ERROR = '["error"'


class Outcome(NamedTuple):
    """The result of running a program.

    Attributes:
        passed: whether its tests ran to their end.
        reason: why not.
        behaviour: equal for programs that do the same on all inputs; None for one that does not
            run. Without inputs, and where each of them leads to an exception, no two are equal.
        fails: whether each input leads to an exception.
    """

    passed: bool
    reason: str
    behaviour: str | None
    fails: bool


class Executor:
    """Judges programs in processes of their own; starts none before it is asked.

    Every distinct program is run once.

    Args:
        kind: how programs are kept from doing harm: "isolated" or "limits" (see `sandbox`); "" to
            run none.
        seconds: of the processor's time that a program may take for its tests, and again for its
            behaviour; four times as long on the clock.
        megabytes: of address space.
        workers: programs at a time; 0: one a CPU, eight at most.

    Raises:
        UserError: no such kind, or a bound that is not positive.
    """

    def __init__(
        self, kind: str = OFF, seconds: float = 5.0, megabytes: int = 1024, workers: int = 0
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"task.execute={kind}: must be {ISOLATED}, {LIMITS} or empty")
        if workers < 0 or seconds <= 0 or megabytes <= 0:
            raise UserError("task.seconds, task.megabytes: the bounds of a program must be > 0")
        self.kind = kind
        workers = workers or min(8, os.cpu_count() or 1)
        self._known: dict[str, Outcome] = {}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="programs")
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # keeps to started ones
        made = [
            Worker(_PROGRAM, seconds=seconds, megabytes=megabytes, needs="Python's module resource")
            for _ in range(workers)
        ]
        for worker in made:
            self._idle.put(worker)
        self._close = weakref.finalize(self, _close, self._threads, made)

    def close(self) -> None:
        """Ends the workers; nothing can be run after it."""
        self._close()

    def ready(self) -> None:
        """Runs a program of one line, so that what does not work is told before there are answers.

        Raises:
            UserError: programs are not run, or the system does not allow the isolation.
        """
        if self.kind == OFF:
            raise UserError(
                "task.execute is empty: judging this task runs programs that a model has written; "
                f"--config.task.execute={ISOLATED} runs them without files and network, "
                f"{LIMITS} with limits on time and memory alone"
            )
        [outcome] = self.judge("f", "assert f(1) == 1\n", [(1,)], ["def f(x): return x\n"])
        if not outcome.passed:
            raise UserError(f"task.execute={self.kind}: a program of one line: {outcome.reason}")

    def judge(
        self, entry: str, tests: str, inputs: Sequence[tuple[Any, ...]], programs: Sequence[str]
    ) -> list[Outcome]:
        """Returns what became of each program.

        Args:
            entry: the function that is asked for.
            tests: Python that calls it, and raises an exception where it is wrong; "" for none, and
                then nothing passes.
            inputs: arguments on which its behaviour is told.

        Raises:
            UserError: programs are not run, the system does not allow the isolation, or the workers
                do not start.
        """
        if self.kind == OFF:
            self.ready()
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        sent = [[encode(each, _nothing) for each in given] for given in inputs]
        same = hashing.of_texts(entry, tests, repr(sent))
        keys = [hashing.of_texts(same, program) for program in programs]
        new = {key: x for key, x in zip(keys, programs, strict=True) if key not in self._known}

        def ask(key: str) -> None:
            request = {"program": new[key], "tests": tests, "entry": entry, "inputs": sent}
            self._known[key] = self._ask({**request, "kind": self.kind})

        for _ in self._threads.map(ask, new):
            pass
        return [self._known[key] for key in keys]

    def _ask(self, request: dict[str, Any]) -> Outcome:
        worker = self._idle.get()
        try:
            reply = worker.ask(request)
        finally:
            self._idle.put(worker)
        if reply is DIED:  # which only a program without isolation can bring about
            return Outcome(False, "it ended the process that runs programs", None, True)
        if "refused" in reply:
            instead = (
                f"; on a machine that holds nothing of worth --config.task.execute={LIMITS} runs "
                "programs with limits alone"
            ) * (self.kind == ISOLATED)
            raise UserError(
                f"task.execute={self.kind}: this system does not allow it: {reply['refused']}"
                f"{instead}"
            )
        return Outcome(reply["passed"], reply["reason"], *_behaviour(reply["behaviour"], request))


def _behaviour(replies: list[str], request: dict[str, Any]) -> tuple[str | None, bool]:
    """Returns the name of a behaviour, and whether it is to fail.

    Args:
        replies: what the program told, first of all whether it runs.
    """
    own = hashing.name_of(request["program"])
    if not request["inputs"]:
        return own, False
    if not replies or replies[0].startswith(_ERROR):
        return None, True
    told = replies[1:]
    if all(reply.startswith(_ERROR) for reply in told):
        return own, True
    # An exception counts by its class alone: messages may hold addresses.
    told = [reply.partition("]")[0] if reply.startswith(_ERROR) else reply for reply in told]
    return hashing.name_of("\n".join([*told, str(len(request["inputs"]) - len(told))])), False


def _nothing(value: Any) -> Any:
    raise TypeError(f"{value!r} is no literal")


def _close(threads: ThreadPoolExecutor, workers: list[Worker]) -> None:
    threads.shutdown(wait=True, cancel_futures=True)
    for worker in workers:
        worker.close()
