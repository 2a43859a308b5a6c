"""What a job does when a signal comes, wherever it comes."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from ttc_jax import cli
from ttc_jax.signals import Interrupted, Signals


def directly(number: int) -> None:
    signal.raise_signal(number)


def wrapped(number: int) -> None:
    """As a library may do that catches everything."""
    try:
        signal.raise_signal(number)
    except BaseException as error:
        raise RuntimeError("a callback failed") from error


def in_a_finalizer(number: int) -> None:
    """Where Python prints what is raised, and drops it."""

    class Last:
        def __del__(self) -> None:
            signal.raise_signal(number)

    Last()
    for _ in range(500):  # not for ever, should it be lost
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("job", [directly, wrapped, in_a_finalizer])
def test_a_signal_ends_a_command_in_one_line(
    job: Callable[[int], None], number: int, monkeypatch, capsys
):
    handlers = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(cli, "_run", lambda _: job(number))
    assert cli.main(["run"]) == 128 + number
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ttc: interrupted by {signal.Signals(number).name}; the same command")
    assert [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_what_is_held_is_cleaned_up_and_a_second_signal_ends_at_once(monkeypatch):
    codes, cleaned, signals = [], [], Signals()
    monkeypatch.setattr(os, "_exit", codes.append)

    def job() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)
            signal.raise_signal(signal.SIGINT)

    with signals.handled(to_the_end=False), pytest.raises(Interrupted):
        job()
    assert cleaned == [True]
    assert codes[0] == 143


def test_other_dropped_exceptions_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", told.append)

    class Last:
        def __del__(self) -> None:
            raise ValueError("mine")

    with Signals().handled(to_the_end=False):
        Last()
    assert [what.exc_type for what in told] == [ValueError]


def test_other_threads_leave_signals_alone():
    handlers = []

    def call() -> None:
        with Signals().handled(to_the_end=False):
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
