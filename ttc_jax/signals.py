"""SIGINT and SIGTERM end a command as an exception does: what it holds is cleaned up first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_AGAIN = 0.05  # seconds until an exception that was lost is raised again


class Interrupted(KeyboardInterrupt):
    """A signal asks the command to end.

    Attributes:
        code: the exit code that shells give to what a signal ended.
    """

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.code = 128 + number


class Signals:
    """Raises `Interrupted` in the main thread when one of the `ENDING` signals comes.

    A second signal ends the process at once, as a kill does. Python prints and drops exceptions
    that are raised inside of finalizers and callbacks, where signals may come too: from there it is
    raised again soon after.

    Attributes:
        received: the first signal; None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: Interrupted | None = None

    @contextlib.contextmanager
    def handled(self, *, to_the_end: bool) -> Iterator[None]:
        """Within it signals are handled; does nothing in another thread than the main one.

        Args:
            to_the_end: nothing but the process's end follows, in which signals end it silently.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {x: signal.signal(x, self._handle) for x in (*ENDING, signal.SIGALRM)}
        hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        self._hook = hook
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if to_the_end else handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGALRM:
            if self.received is not None:
                raise self.received
            return
        if self.received is not None:
            os._exit(self.received.code)
        self.received = Interrupted(number)
        raise self.received

    def _dropped(self, what: Any) -> None:
        if isinstance(what.exc_value, Interrupted):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            self._hook(what)
