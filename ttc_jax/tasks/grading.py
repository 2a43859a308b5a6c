r"""Grading: final answers against gold ones, under hard bounds on time and memory.

Answers are untrusted, and math-verify can be led into power towers and deep nests that take
minutes and gigabytes. So what is plain text is compared here, and everything else in worker
processes (`ttc_jax.workers`), each of which ends when an answer breaks the bounds.
"""

import contextlib
import logging
import os
import queue
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ttc_jax.errors import UserError
from ttc_jax.tasks.answers import canonical_text, equal_text, is_letter, same_choice
from ttc_jax.tasks.spelling import choice, respell, strip
from ttc_jax.tasks.task import Verdict
from ttc_jax.workers import DIED, Worker

__all__ = ["MAX_ANSWER", "Grader", "unparsed_kept"]

MAX_ANSWER = 2000
"""Longest text, in characters, that is taken for an answer (the longest of MATH has 159)."""

MOST_KNOWN = 1 << 17
"""Answers that are remembered with what became of them; beyond that all are forgotten."""

_PROGRAM = Path(__file__).with_name("grading_worker.py")
_log = logging.getLogger(__name__)


class Grader:
    r"""Compares final answers with gold ones, and gives every answer its canonical form.

    An answer is right when in one spelling (`ttc_jax.tasks.spelling`) it is the gold answer's text,
    or a numeral of the same value, or the same words, or when math-verify says so, or when both
    have one canonical form. The last two need a worker process; workers start when first needed,
    one is replaced when it dies, and all end with `close`, with the `with` block, or with this
    object. Every distinct answer is read once.

    Attributes:
        unparsed: Each answer that could not be read (its first 200 characters) with the reason:
            "too long", "over the bounds" (time or memory, or it crashed the parser) or "no value".
            Such an answer is right only if its text equals the gold answer's.

    Args:
        workers: Worker processes at most; 0: one a CPU, eight at most.
        seconds: Bound on the processor's time for one answer.
        megabytes: Bound on the address space of a worker (enforced on Linux); it takes 70 itself.
        max_answer: Longest answer, in characters; a longer text is no answer.

    Raises:
        UserError: A bound is not positive; or, when judging, the workers do not start.
    """

    def __init__(
        self,
        workers: int = 0,
        seconds: float = 5.0,
        megabytes: int = 1024,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        if workers < 0 or seconds <= 0 or megabytes <= 0 or max_answer <= 0:
            raise UserError("grading: workers must be >= 0, the bounds on an answer > 0")
        workers = workers or min(8, os.cpu_count() or 1)
        self.unparsed: dict[str, str] = {}
        self._max_answer = max_answer
        self._verdicts: dict[tuple[str, str], bool] = {}
        self._keys: dict[str, str] = {}
        self._spelled: dict[str, str] = {}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grading")
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # keeps to started ones
        self._workers = [
            Worker(_PROGRAM, seconds=seconds, megabytes=megabytes, needs="math-verify")
            for _ in range(workers)
        ]
        for worker in self._workers:
            self._idle.put(worker)
        self._close = weakref.finalize(self, _close, self._threads, self._workers)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; the grader cannot judge after it."""
        self._close()

    def judge(self, gold: str, answers: Sequence[str | None]) -> list[Verdict]:
        """A verdict on each answer, in their order; None is the answer of a solution without one.

        Nothing equals an empty gold answer.
        A wrong, hostile or unreadable answer is a verdict, never an error.
        """
        if len(self._keys) > MOST_KNOWN:  # of a server, which judges as long as it runs
            for known in (self._verdicts, self._keys, self._spelled, self.unparsed):
                known.clear()
        short = [
            strip(a) if a is not None and len(a) <= self._max_answer else None for a in answers
        ]
        for answer, kept in zip(answers, short, strict=True):
            if answer is not None and kept is None:
                self._give_up(answer, "too long")
        aim = self._spell(strip(gold))
        spelled = [self._spell(a) if a else None for a in short]
        pending = {a: None for a in spelled if a and not self._known(aim, a)}
        for _ in self._threads.map(lambda answer: self._ask(aim, answer), pending):
            pass
        lettered = is_letter(aim) or choice(gold) is not None
        return [
            Verdict(
                self._keys[a],
                self._verdicts[aim, a] or (lettered and same_choice(gold, answer or "")),
            )
            if a
            else _NONE
            for answer, a in zip(short, spelled, strict=True)
        ]

    def _spell(self, answer: str) -> str:
        if answer not in self._spelled:
            self._spelled[answer] = respell(answer) or answer
        return self._spelled[answer]

    def _known(self, gold: str, answer: str) -> bool:
        """Whether the verdict and the canonical form are there, or need no worker."""
        if (gold, answer) not in self._verdicts:
            equal = equal_text(gold, answer) if gold else False
            if equal is not None:
                self._verdicts[gold, answer] = equal
        if answer not in self._keys:
            key = canonical_text(answer)
            if key is not None:
                self._keys[answer] = key
        return (gold, answer) in self._verdicts and answer in self._keys

    def _ask(self, gold: str, answer: str) -> None:
        """Completes what is known of an answer with a worker's help."""
        compare = (gold, answer) not in self._verdicts and len(gold) <= self._max_answer
        worker = self._idle.get()
        try:
            equal, key = worker.ask_several([gold if compare else None, answer], 2)
            if equal is DIED and answer not in self._keys:
                # Its form must not depend on what it was compared with.
                _, key = worker.ask_several([None, answer], 2)
        finally:
            self._idle.put(worker)
        self._verdicts.setdefault((gold, answer), equal is True)
        if answer not in self._keys:
            if not isinstance(key, str):
                self._give_up(answer, "no value" if key is None else "over the bounds")
            self._keys[answer] = key if isinstance(key, str) else "".join(answer.split())

    def _give_up(self, answer: str, reason: str) -> None:
        self.unparsed[answer[:200]] = reason
        _log.info("answer not parsed, %s: %.200r", reason, answer)


@contextlib.contextmanager
def unparsed_kept(workdir: Path, shard: int = 0) -> Iterator[None]:
    """Meanwhile a line is added to WORKDIR/unparsed-00000.log for each answer that is not read.

    It has the reason (`Grader.unparsed`) and the answer's first 200 characters. There is no file as
    long as there is nothing to tell.

    Args:
        shard: One a host, as in the results store.
    """
    path, level = workdir / f"unparsed-{shard:05d}.log", _log.level
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True)
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.setLevel(level)
        _log.removeHandler(handler)
        handler.close()


_NONE = Verdict(None, False)


def _close(threads: ThreadPoolExecutor, workers: list[Worker]) -> None:
    threads.shutdown(wait=True, cancel_futures=True)
    for worker in workers:
        worker.close()
