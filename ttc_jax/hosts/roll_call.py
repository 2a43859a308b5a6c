"""The roll call: hosts find each other, prove that they share the workdir, and agree on the work.

The first host writes a secret into the workdir, readable by its own user alone. Who answers must
prove to know it, so that a stranger who reaches the port is heard but believed in nothing, and a
workdir that is not shared is noticed. Afterwards the file is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hmac
import ipaddress
import json
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.hosts.wire import Message, Peer, printable

_SHARED = 30.0  # seconds that a network disk may take to show what another host wrote
_POLITE = 5.0  # seconds that an answer may take beyond these
_STRANGERS = 64  # connections that are listened to at a time
SECRET = ".hosts"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class HostId:
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


def take(here: HostId, facts: Mapping[str, Any], workdir: Path, timeout: float) -> list[Peer]:
    """The first host's part: returns the connections to the other hosts, in their order.

    Raises:
      UserError: a host that is missing or disagrees (names it and what on); a port that is taken.
    """
    found: dict[int, tuple[Peer, Mapping[str, Any]]] = {}
    answers: queue.SimpleQueue[tuple[Peer, Message]] = queue.SimpleQueue()
    deadline = time.monotonic() + timeout
    run, secret = secrets.token_hex(8), secrets.token_hex(32)
    try:
        with _server(here) as server, _written(workdir, run, secret):
            listener = threading.Thread(
                target=_listen, args=(server, run, secret, here.count, answers), daemon=True
            )
            listener.start()
            while missing := [i for i in range(1, here.count) if i not in found]:
                try:
                    peer, said = answers.get(timeout=max(0.01, deadline - time.monotonic()))
                except queue.Empty:
                    raise UserError(
                        f"{_named(missing)} of {here.count} did not come up in time: start the "
                        f"same command there with --host={missing[0]}, and see that it reaches "
                        "host 0 and shares --workdir"
                    ) from None
                if peer.index in found:
                    raise UserError(f"two processes say that they are host {peer.index}")
                found[peer.index] = peer, said.facts
            with contextlib.suppress(OSError):  # closing alone does not wake who waits in accept
                server.shutdown(socket.SHUT_RDWR)
        for peer, theirs in found.values():
            _compare(facts, theirs, peer.name)
    except UserError as error:
        for peer, _ in found.values():
            peer.send(Message(error=str(error)))
        raise
    peers = [found[index][0] for index in sorted(found)]
    for peer in peers:
        peer.send(Message(welcome=True))
    return peers


def answer(here: HostId, facts: Mapping[str, Any], workdir: Path, timeout: float) -> Peer:
    """Another host's part: returns the connection to the first.

    Raises:
      UserError: the first host is not there or refuses; a workdir that is not shared.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            link = socket.create_connection(here.coordinator, timeout=5)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"host 0 of {here.count} did not come up in time at "
                    f"--coordinator={here.coordinator[0]}:{here.coordinator[1]}: "
                    f"{error.strerror or error}"
                ) from error
            time.sleep(0.2)
            continue
        first = Peer(link)
        first.introduce(0, here.coordinator[0])
        greeting = first.receive(_POLITE)
        if greeting is not None and greeting.run:
            break
        first.close()  # somebody else's port, or one that is busy with strangers
        if time.monotonic() > deadline:
            raise UserError(
                f"--coordinator={here.coordinator[0]}:{here.coordinator[1]}: what answers there is "
                "no host of ttc_jax"
            )
        time.sleep(0.2)
    secret = _read(workdir, greeting.run)
    if secret is None:
        reason = (
            f"--workdir={workdir}: host {here.index} does not see what host 0 writes there; the "
            "hosts must share it, as on a network disk"
        )
        first.send(Message(host=here.index, error=reason))
        raise UserError(reason)
    name = socket.gethostname()
    said = Message(host=here.index, name=name, facts=dict(facts))
    first.send(_proved(said, secret, greeting.nonce))
    reply = first.receive()
    if reply is None or not (reply.welcome or reply.error):
        raise UserError("host 0 ended during the roll call, its output says why")
    if reply.error:
        raise UserError(printable(reply.error))
    return first


def bind_address(here: HostId) -> str:
    """The address that the first host listens at: that of `--coordinator`, and no other.

    A name that only this machine takes for itself, as Debian's /etc/hosts has it, does not tell the
    address that others reach: then "", which is all.
    """
    name, port = here.coordinator
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4][0]
        literal = _is_address(name) or name == "localhost"
        return "" if ipaddress.ip_address(found).is_loopback and not literal else str(found)
    except OSError as error:
        raise UserError(
            f"--coordinator={name}:{port}: this host does not know the address: {error.strerror}"
        ) from error


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _server(here: HostId) -> socket.socket:
    _, port = here.coordinator
    address = bind_address(here)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        # JAX would end with a stack trace where the second port is taken.
        socket.create_server((address, port + 1), family=family).close()
        return socket.create_server((address, port), family=family, backlog=here.count)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"--coordinator={here.coordinator[0]}:{port}: is no address of this host, which "
                "--host=0 must be"
            ) from error
        raise UserError(
            f"--coordinator: port {port} or {port + 1} of this host cannot be used: "
            f"{error.strerror}; choose another"
        ) from error


@contextlib.contextmanager
def _written(workdir: Path, run: str, secret: str) -> Iterator[None]:
    """Meanwhile the workdir holds the secret of a run."""
    path = workdir / SECRET
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a run that was killed
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as out:
            out.write(f"{run} {secret}\n")
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _read(workdir: Path, run: str) -> str | None:
    """The secret of a run, once the disk shows it."""
    deadline = time.monotonic() + _SHARED
    while True:
        with contextlib.suppress(OSError, ValueError):
            words = (workdir / SECRET).read_text(encoding="ascii").split()
            if len(words) == 2 and words[0] == run:
                return words[1]
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)


def _listen(
    server: socket.socket,
    run: str,
    secret: str,
    count: int,
    answers: queue.SimpleQueue[tuple[Peer, Message]],
) -> None:
    """Hears all who come, until the server is closed."""
    room = threading.BoundedSemaphore(_STRANGERS)

    def hear(peer: Peer) -> None:
        try:
            nonce = secrets.token_hex(16)
            peer.send(Message(run=run, nonce=nonce))
            said = peer.receive(_SHARED + _POLITE)
            if said is not None and 0 < said.host < count and _believed(said, secret, nonce):
                peer.introduce(said.host, said.name)
                answers.put((peer, said))
                return
            # A host that does not see the secret can prove nothing, and so may be anybody.
            if said is not None and said.error:
                _log.warning("host %d, as it says: %s", said.host, printable(said.error)[:300])
            peer.close()
        finally:
            room.release()

    while True:
        try:
            link, _ = server.accept()
        except OSError:  # closed
            return
        if not room.acquire(blocking=False):
            link.close()
            continue
        threading.Thread(target=hear, args=(Peer(link),), daemon=True).start()


def proof(message: Message, secret: str, nonce: str) -> str:
    """What an answer must hold: it depends on the answer, the secret and the greeting."""
    said = dataclasses.asdict(dataclasses.replace(message, proof=""))
    text = nonce + json.dumps(said, sort_keys=True)
    return hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()


def _proved(message: Message, secret: str, nonce: str) -> Message:
    return dataclasses.replace(message, proof=proof(message, secret, nonce))


def _believed(message: Message, secret: str, nonce: str) -> bool:
    return hmac.compare_digest(message.proof.encode(), proof(message, secret, nonce).encode())


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> None:
    for what in sorted(ours.keys() | theirs.keys()):
        if ours.get(what) != theirs.get(what):
            raise UserError(
                f"the hosts disagree on {what}: {ours.get(what)!r} at host 0, "
                f"{theirs.get(what)!r} at {name}"
            )


def _named(missing: Sequence[int]) -> str:
    return f"host{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
