"""Programs that attack what runs them are judged wrong, and the next one is judged as ever."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.hostile_programs import TESTS, programs
from ttc_jax.errors import UserError
from ttc_jax.tasks.code.executor import Executor


@pytest.fixture
def port() -> Iterator[int]:
    """A port, and an abstract socket of its number, that give the secret away."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_UNIX) as other:
        number = one.getsockname()[1]
        other.bind(f"\0ttc-{number}")
        other.listen()

        def serve(listener: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].sendall(b"SECRET")

        for listener in (one, other):
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield number


def test_isolated(tmp_path: Path, port: int):
    secret, outside = tmp_path / "secret.txt", tmp_path / "outside.txt"
    secret.write_text("SECRET")
    tmp_path.chmod(0o777)
    found = programs(str(secret), str(outside), port)
    executor = Executor("isolated", seconds=1.0, megabytes=256, workers=2)
    try:
        executor.ready()
    except UserError as error:
        pytest.skip(str(error))
    outcomes = executor.judge("f", TESTS, [], list(found.values()))
    judged = zip(found, outcomes, strict=True)
    assert [name for name, outcome in judged if outcome.passed] == []
    assert all(outcome.reason for outcome in outcomes)
    assert sorted(tmp_path.iterdir()) == [secret]
    assert secret.read_text() == "SECRET"
    # Those that break what tells of behaviour have none, or one of their own.
    [forged] = executor.judge("f", TESTS, [(1,)], [found["forge the verdict and go"]])
    right = "def f(x): return 'SECRET'"
    [last] = executor.judge("f", TESTS, [(1,)], [right])
    assert last.passed
    assert last.behaviour not in (None, forged.behaviour)
    executor.close()
