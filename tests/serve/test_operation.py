"""A server that is run: bounds, keys, clients that leave, and its end."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.running import EASY, Running, lines, serving
from ttc_jax.errors import UserError
from ttc_jax.search.slots import Slots
from ttc_jax.serve.keys import Keys, read_keys

KEY = "0123456789abcdef-our-own"
ALLOWED = {"Authorization": f"Bearer {KEY}"}
ASKED: dict[str, Any] = {"prompt": EASY, "max_tokens": 30, "temperature": 0}
BOUNDS = (
    "--config.serve.requests=2",
    "--config.serve.body_bytes=4000",
    "--config.serve.body_seconds=0.5",
)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(*BOUNDS, keys=Keys([KEY, "another-key-of-theirs"])) as found:
        yield found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Searches stand still until it is set."""
    found, advance = threading.Event(), Slots.advance

    def wait(self: Slots, *arguments: Any):
        assert found.wait(60)
        return advance(self, *arguments)

    monkeypatch.setattr(Slots, "advance", wait)
    yield found
    found.set()


def until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def ask(running: Running, **changes: Any) -> httpx.Response:
    return running.post("/completions", json={**ASKED, **changes}, headers=ALLOWED)


def begin(running: Running, length: int) -> socket.socket:
    """A request whose body does not come."""
    url = httpx.URL(running.url)
    found = socket.create_connection((url.host, url.port or 80))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    found.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return found


@pytest.mark.parametrize("given", ["", "Bearer", f"Basic {KEY}", "Bearer \u00fc", KEY])
@pytest.mark.parametrize("path", ["/completions", "/models"])
def test_nobody_is_served_without_a_key(running: Running, path: str, given: str):
    headers = {b"Authorization": given.encode()}
    method = "GET" if path == "/models" else "POST"
    found = httpx.request(method, running.url + path, headers=headers)
    assert found.status_code == 401
    assert found.json()["error"]["type"] == "authentication_error"
    assert found.headers["www-authenticate"] == "Bearer"


def test_each_key_is_good(running: Running):
    assert ask(running).status_code == 200
    headers = {"Authorization": "bearer another-key-of-theirs"}
    assert running.post("/completions", json=ASKED, headers=headers).status_code == 200


def test_a_large_body_is_refused(running: Running):
    assert ask(running, user="x" * 4000).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 1000

    found = running.post("/completions", content=pieces(), headers=ALLOWED)
    assert found.status_code == 413
    assert running.server.api.in_flight == 0


def test_a_slow_body_is_refused(running: Running):
    with begin(running, 100) as connection:
        assert connection.recv(64).startswith(b"HTTP/1.1 408")
    until(lambda: running.server.api.in_flight == 0)


def test_a_full_queue_says_when_to_come_again(running: Running, gate: threading.Event):
    with ThreadPoolExecutor(2) as threads:
        accepted = [threads.submit(ask, running) for _ in range(2)]
        until(lambda: running.server.api.in_flight == 2)
        found = ask(running)
        gate.set()
        assert {one.result().status_code for one in accepted} == {200}
    assert found.status_code == 429
    assert found.json()["error"]["type"] == "rate_limit_error"
    assert int(found.headers["retry-after"]) >= 1
    assert ask(running).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(
    running: Running, gate: threading.Event, stream: bool, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "ttc_jax.serve")
    body = json.dumps({**ASKED, "stream": stream}).encode()
    with begin(running, len(body)) as connection:
        connection.sendall(body)
        until(lambda: running.server.backend.worker.in_slots == 1)
    until(lambda: running.server.api.in_flight == 0)
    gate.set()
    until(lambda: running.server.backend.worker.in_slots == 0)
    assert [line["status"] for line in lines(caplog)] == [499]
    expected = ask(running).json()["choices"][0]["text"]
    assert expected


def test_a_deadline_cuts_an_answer_off(running: Running, monkeypatch: pytest.MonkeyPatch):
    advance = Slots.advance

    def slow(self: Slots, patience: int, most: int):
        time.sleep(0.05)
        return advance(self, patience, min(most, 2))

    monkeypatch.setattr(Slots, "advance", slow)
    found = ask(running, deadline_s=0.2).json()
    assert found["ttc"]["cut"]
    assert found["choices"][0]["finish_reason"] == "length"
    assert 0 < found["usage"]["completion_tokens"] < 25


def test_a_deadline_before_the_search_is_an_error(running: Running, gate: threading.Event):
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask, running)
        until(lambda: running.server.backend.worker.in_slots == 1)
        late = threads.submit(ask, running, deadline_s=0.01)
        until(lambda: running.server.api.in_flight == 2)
        time.sleep(0.05)
        gate.set()
        assert first.result().status_code == 200
        assert late.result().status_code == 504


def test_keys_come_from_a_file_and_the_environment(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{KEY}\n")
    keys = read_keys(str(path), "0.0.0.0", {"TTC_API_KEYS": "a-second-key-of-ours, "})
    assert keys.accept(f"Bearer {KEY}")
    assert keys.accept("Bearer a-second-key-of-ours")
    assert not keys.accept("Bearer # ours")
    assert not read_keys("", "127.0.0.1", {})
    assert not read_keys("", "::1", {})


@pytest.mark.parametrize(
    ("text", "host", "message"),
    [
        ("", "127.0.0.1", "holds no key"),
        ("short\n", "127.0.0.1", "fewer than 16"),
        ("\u00fc" * 20, "127.0.0.1", "others than ASCII"),
        (None, "0.0.0.0", "without a key"),
        (None, "example.org", "without a key"),
        ("missing", "127.0.0.1", "no such file"),
    ],
)
def test_keys_that_are_none_are_one_line(tmp_path: Path, text, host: str, message: str):
    path = tmp_path / "keys"
    if text not in (None, "missing"):
        path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_keys("" if text is None else str(path), host, {})
    assert "\n" not in str(error.value)


def test_it_finishes_what_it_accepted_and_refuses_the_rest(running: Running, gate: threading.Event):
    """The last test: it ends the server of the others."""
    with ThreadPoolExecutor(2) as threads:
        accepted = threads.submit(ask, running)
        with httpx.Client(base_url=running.url, headers=ALLOWED) as kept:
            kept.get("/models")
            until(lambda: running.server.backend.worker.in_slots == 1)
            running.server.handle_exit(15, None)
            assert running.get("/ready").status_code == 503
            assert running.get("/health").status_code == 200
            found = kept.post("/completions", json=ASKED)
            assert found.status_code == 503
            assert found.json()["error"]["code"] == "stopping"
            assert found.headers["connection"] == "close"
            gate.set()
        assert accepted.result().status_code == 200
        until(lambda: not running.server.backend.worker.is_alive)
