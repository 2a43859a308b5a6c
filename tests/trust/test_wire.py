"""Strangers at the port of the roll call are heard, believed in nothing, and cost little."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.test_hosts import free_port
from ttc_jax.errors import UserError
from ttc_jax.hosts import roll_call
from ttc_jax.hosts.roll_call import HostId
from ttc_jax.hosts.wire import LONGEST, Message, Peer

FACTS: dict[str, Any] = {"--config.seed": 0, "versions": {"jax": "1"}, "rates": [0.5, None]}
HELLO = {"host": 1, "name": "x", "facts": FACTS}


def strange(run: str, nonce: str) -> list[bytes]:
    """What a stranger may say after the greeting."""
    del run
    deep = b"[" * 100_000
    return [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        deep + b"\n",
        b'{"host": ' + deep + b"\n",
        json.dumps(HELLO).encode() + b"\n",
        json.dumps(HELLO | {"proof": nonce}).encode() + b"\n",
        json.dumps(HELLO | {"proof": "\ud800"}).encode() + b"\n",
        json.dumps(HELLO | {"host": "1"}).encode() + b"\n",
        json.dumps(HELLO | {"host": -1}).encode() + b"\n",
        json.dumps(HELLO | {"host": 10**30}).encode() + b"\n",
        json.dumps(HELLO | {"facts": [1]}).encode() + b"\n",
        json.dumps(HELLO | {"more": 1}).encode() + b"\n",
        json.dumps({"host": 1, "error": "the \x1b[2Jworkdir"}).encode() + b"\n",
        b'"' + b"x" * (LONGEST + 100_000),
    ]


@pytest.fixture
def first(tmp_path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """A first host that waits for one other, at a port; what became of its roll call."""
    port, found = free_port(), {}

    def take() -> None:
        try:
            here = HostId(0, 2, ("127.0.0.1", port))
            found["peers"] = roll_call.take(here, FACTS, tmp_path, timeout=30)
        except UserError as error:
            found["error"] = str(error)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    while not (tmp_path / roll_call.SECRET).exists():
        assert thread.is_alive(), found
    found["thread"] = thread
    yield port, found
    thread.join(40)
    for peer in found.get("peers", ()):
        peer.close()


def greeted(port: int) -> tuple[socket.socket, dict[str, str]]:
    link = socket.create_connection(("127.0.0.1", port), timeout=10)
    line = link.makefile("rb").readline()
    return link, json.loads(line)


def test_strangers_are_believed_in_nothing(first, tmp_path: Path) -> None:
    port, found = first
    slow, _ = greeted(port)
    slow.sendall(b'{"host"')  # and then nothing, which holds up nobody
    said = strange("", "")
    for number in range(len(said)):
        link, greeting = greeted(port)
        with link, contextlib.suppress(OSError):
            link.sendall(strange(**greeting)[number])
            link.shutdown(socket.SHUT_WR)
            assert link.recv(1) == b""
    assert found["thread"].is_alive()
    peer = roll_call.answer(HostId(1, 2, ("127.0.0.1", port)), FACTS, tmp_path, timeout=10)
    found["thread"].join(10)
    assert [one.index for one in found["peers"]] == [1]
    assert not (tmp_path / roll_call.SECRET).exists()
    with pytest.raises(ConnectionRefusedError):  # it listens no longer
        socket.create_connection(("127.0.0.1", port), timeout=5)
    found["peers"][0].send(Message(at="end"))
    assert peer.receive(5) == Message(at="end")
    peer.close()
    slow.close()


def test_a_proof_is_of_one_greeting(first, tmp_path: Path) -> None:
    """What was overheard from a host does not open another connection."""
    port, found = first
    secret = (tmp_path / roll_call.SECRET).read_text().split()[1]
    one, greeting = greeted(port)
    other, _ = greeted(port)
    honest = Message(host=1, name="x", facts=FACTS)
    proof = roll_call.proof(honest, secret, greeting["nonce"])
    text = json.dumps(HELLO | {"proof": proof}).encode() + b"\n"
    with other:
        other.sendall(text)
        assert other.recv(1) == b""
    changed = json.dumps(HELLO | {"facts": {}, "proof": proof}).encode() + b"\n"
    third, _ = greeted(port)
    with third:
        third.sendall(changed)
        assert third.recv(1) == b""
    with one:
        one.sendall(text)
        assert json.loads(one.makefile("rb").readline()) == {"welcome": True}
    found["thread"].join(10)
    assert len(found["peers"]) == 1


def test_the_secret_is_the_users_own(first, tmp_path: Path) -> None:
    port, _ = first
    assert (tmp_path / roll_call.SECRET).stat().st_mode & 0o077 == 0
    roll_call.answer(HostId(1, 2, ("127.0.0.1", port)), FACTS, tmp_path, timeout=10).close()


def test_it_listens_at_the_address_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert roll_call.bind_address(HostId(0, 2, ("127.0.0.1", 80))) == "127.0.0.1"
    assert roll_call.bind_address(HostId(0, 2, ("10.0.0.1", 80))) == "10.0.0.1"
    assert roll_call.bind_address(HostId(0, 2, ("::1", 80))) == "::1"

    def resolve(address: str):
        return lambda *_, **__: [(socket.AF_INET, 1, 6, "", (address, 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve("10.1.2.3"))
    assert roll_call.bind_address(HostId(0, 2, ("node-0", 80))) == "10.1.2.3"
    monkeypatch.setattr(socket, "getaddrinfo", resolve("127.0.1.1"))  # as Debian's /etc/hosts
    assert roll_call.bind_address(HostId(0, 2, ("node-0", 80))) == ""


def test_an_address_of_another_host(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1:\d+: is no address of this host"):
        roll_call.take(HostId(0, 2, ("192.0.2.1", free_port())), FACTS, tmp_path, timeout=1)


def test_a_message_is_bounded_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    with here, there:
        there.sendall(b'{"at": ')
        assert Peer(here).receive(0.2) is None
