"""The connections of the first host with each other one: roll call, events, and who has died."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ttc_jax.errors import UserError

END = "end"  # the last event
_SETTLE = 2.0  # seconds that it takes until it is known that another host has died
_SHARED = 30.0  # seconds that a network disk may take to show what another host wrote
_SAFE = "what is stored is safe: the same command, with as many hosts as you like, goes on from it"


@dataclasses.dataclass(frozen=True)
class Place:
    """This host among all.

    Attributes:
      index: from 0; the first host takes the roll call, and reports.
      count: of all hosts.
      coordinator: the first host's address and port; JAX takes the port behind it.
      devices: the ids of those that are this process's own; None: all of the host.
    """

    index: int
    count: int
    coordinator: tuple[str, int]
    devices: Sequence[int] | None = None


class _Peer:
    """A connection to another host, which speaks in lines of JSON."""

    def __init__(self, link: socket.socket):
        self.index, self.name = 0, "host 0"
        self._link, self._lines = link, link.makefile("rb")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A machine without power says nothing: it is asked after 10 s, and given up after 40.
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 6)):
            if hasattr(socket, option):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def introduce(self, index: int, name: str) -> None:
        """Says who it is, which may now be silent as long as it likes."""
        self.index, self.name = index, f"host {index} ({name})"
        self._link.settimeout(None)

    def send(self, **message: Any) -> None:
        """Says something; nobody may be there to hear it, which reading tells."""
        with contextlib.suppress(OSError):
            self._link.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message; None: the connection is closed, or speaks of something else."""
        try:
            message = json.loads(self._lines.readline())
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None


class Line:
    """What connects the hosts, from the roll call to the end.

    Once it is up, a host that dies or fails ends all others, each with one line that names it.

    Args:
      here: which of the hosts this one is.
      facts: what all must agree on, by the name that errors give it; as JSON gives it back.
      timeout: seconds that hosts have to come up.

    Raises:
      UserError: a host that is missing or disagrees (names it and what on); a port that is taken.
    """

    def __init__(self, here: Place, facts: Mapping[str, Any], timeout: float):
        self.here = here
        self._arrived: queue.SimpleQueue[tuple[_Peer, str]] = queue.SimpleQueue()
        self._ending = threading.Lock()
        if here.index == 0:
            self._run = secrets.token_hex(8)
            self._peers = _take_roll_call(here, facts, timeout, self._run)
        else:
            first, self._run = _answer_roll_call(here, facts, timeout)
            self._peers = [first]
        for peer in self._peers:
            threading.Thread(target=self._watch, args=(peer,), daemon=True).start()

    def wait(self, event: str) -> None:
        """Returns when every host has come to this event.

        Raises:
          UserError: another host waits for another event.
        """
        if self.here.index == 0:
            for _ in self._peers:
                peer, other = self._arrived.get()
                if other != event:
                    raise UserError(f"host 0 is at {event!r}, {peer.name} at {other!r}")
        for peer in self._peers:
            peer.send(at=event)
        if self.here.index > 0:
            self._arrived.get()

    def check_shared(self, workdir: Path) -> None:
        """Refuses a workdir in which this host does not find what the first wrote."""
        mark = workdir / ".hosts"
        if self.here.index == 0:
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                mark.write_text(self._run)
            except OSError as error:
                raise UserError(f"--workdir={workdir}: {error.strerror}") from error
        self.wait("workdir")
        deadline = time.monotonic() + _SHARED
        while not mark.is_file() or mark.read_text() != self._run:
            if time.monotonic() > deadline:
                raise UserError(
                    f"--workdir={workdir}: host {self.here.index} does not see what host 0 writes "
                    "there; the hosts must share it, as on a network disk"
                )
            time.sleep(0.2)
        self.wait("shared workdir")
        if self.here.index == 0:
            mark.unlink()

    def tell(self, error: BaseException) -> None:
        """Tells the others why this host ends."""
        if not isinstance(error, UserError | KeyboardInterrupt):
            time.sleep(_SETTLE)
        self._ending.acquire()  # for good: what the others answer ends nothing here
        reason = str(error) or type(error).__name__
        for peer in self._peers:
            peer.send(error=f"host {self.here.index} ended: {reason}")

    def _watch(self, peer: _Peer) -> None:
        while message := peer.receive():
            if "error" in message:
                self._end(message["error"])
            self._arrived.put((peer, message["at"]))
            if message["at"] == END:
                return
        self._end(f"{peer.name} is gone, its own output may say why; {_SAFE}")

    def _end(self, reason: str) -> None:
        """Ends this process, whatever it is at: what it wrote is whole, as after a kill."""
        self._ending.acquire()  # for good: the first reason is the one that is told
        for peer in self._peers:
            peer.send(error=reason)
        print(f"\nttc: {reason}", file=sys.stderr)  # behind a progress line
        self.exit(2)

    def exit(self, code: int) -> NoReturn:
        """Ends this process without any clean-up."""
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        if self.here.index == 0:
            time.sleep(_SETTLE)  # JAX aborts, with a stack trace, where it loses the first host
        os._exit(code)


def _take_roll_call(here: Place, facts: Mapping[str, Any], timeout: float, run: str) -> list[_Peer]:
    """The connections to the other hosts, in their order."""
    found: dict[int, tuple[_Peer, dict[str, Any]]] = {}
    deadline = time.monotonic() + timeout
    try:
        with _server(here) as server:
            while missing := [i for i in range(1, here.count) if i not in found]:
                peer, theirs = _accept(server, deadline, here.count, missing)
                if peer.index in found:
                    raise UserError(f"two processes say that they are host {peer.index}")
                found[peer.index] = peer, theirs
        for peer, theirs in found.values():
            _compare(facts, theirs, peer.name)
    except UserError as error:
        for peer, _ in found.values():
            peer.send(error=str(error))
        raise
    peers = [found[index][0] for index in sorted(found)]
    for peer in peers:
        peer.send(run=run)
    return peers


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> None:
    for what in sorted(ours.keys() | theirs.keys()):
        if ours.get(what) != theirs.get(what):
            raise UserError(
                f"the hosts disagree on {what}: {ours.get(what)!r} at host 0, "
                f"{theirs.get(what)!r} at {name}"
            )


def _server(here: Place) -> socket.socket:
    _, port = here.coordinator
    try:
        socket.create_server(("", port + 1)).close()  # JAX would end with a stack trace
        return socket.create_server(("", port), backlog=here.count)
    except OSError as error:
        raise UserError(
            f"--coordinator: port {port} or {port + 1} of this host cannot be used: "
            f"{error.strerror}; choose another"
        ) from error


def _accept(
    server: socket.socket, deadline: float, count: int, missing: Sequence[int]
) -> tuple[_Peer, dict[str, Any]]:
    """The next host that answers the roll call, and what it says."""
    while True:
        server.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            link, _ = server.accept()
        except TimeoutError:
            raise UserError(
                f"{_named(missing)} of {count} did not come up in time: start the same command "
                f"there with --host={missing[0]}, and see that it reaches host 0"
            ) from None
        link.settimeout(5)
        peer = _Peer(link)
        match peer.receive():
            case {"host": int(index), "name": str(name), "facts": dict(facts)}:
                peer.introduce(index, name)
                return peer, facts
        # Somebody else, who tries ports.


def _named(missing: Sequence[int]) -> str:
    return f"host{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"


def _answer_roll_call(here: Place, facts: Mapping[str, Any], timeout: float) -> tuple[_Peer, str]:
    """The connection to the first host, and what it calls this run."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            link = socket.create_connection(here.coordinator, timeout=5)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"host 0 of {here.count} did not come up in time at "
                    f"--coordinator={here.coordinator[0]}:{here.coordinator[1]}: "
                    f"{error.strerror or error}"
                ) from error
            time.sleep(0.2)
    first = _Peer(link)
    first.introduce(0, here.coordinator[0])
    first.send(host=here.index, name=socket.gethostname(), facts=facts)
    answer = first.receive() or {"error": "host 0 ended during the roll call, its output says why"}
    if "error" in answer:
        raise UserError(answer["error"])
    return first, answer["run"]
