"""One command on many hosts: each runs it with its own index, on its own devices.

    ttc run ... --hosts=auto                                            a TPU pod, GKE, Slurm, MPI
    ttc run ... --hosts=2 --host=0 --coordinator=10.0.0.1:8476          the first of two
    ttc run ... --hosts=2 --host=1 --coordinator=10.0.0.1:8476          the second

A roll call comes first: who is missing, or has another config or another version, is named before
any work is done. Its connections stay open, and so tell at once of a host that dies; then all end,
with one line that names it. JAX would tell later and with a stack trace, and not who, so outside of
training, whose devices talk to each other, its own watch ends as soon as all devices are known.
Searches talk to no other host: questions are split, records stored by host, and the first host
reports when all have stored theirs. The workdir must be on a disk that all hosts share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import ttc_jax
from ttc_jax.errors import UserError

T = TypeVar("T")

AUTO = "auto"
TIMEOUT = 300  # seconds
_SETTLE = 2.0  # seconds until an error that another host's death caused has that as its reason
_SHARED = 30.0  # seconds that a network disk may take to show what another host wrote
_LAST = "end"
_SAFE = "what is stored is safe: the same command, with as many hosts as you like, goes on from it"


class Place(NamedTuple):
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


def index() -> int:
    """This host's, from 0."""
    return _line.here.index if _line else 0


def count() -> int:
    """How many hosts there are."""
    return _line.here.count if _line else 1


def is_first() -> bool:
    """Whether this host is the one that reports and writes what there is one of."""
    return index() == 0


def mine(items: Sequence[T]) -> list[T]:
    """This host's items: every host has others, and none is left out."""
    return list(items[index() :: count()])


def wait(event: str) -> None:
    """Returns when every host has come to this event; at once where there is one host.

    Raises:
      UserError: another host waits for another event.
    """
    if _line is not None:
        _line.wait(event)


def place(hosts: str, host: str, coordinator: str, timeout: float) -> Place | None:
    """What the flags say; None: one host.

    Raises:
      UserError: values that do not fit together, or nothing that `auto` could ask.
    """
    if hosts == AUTO:
        return _detected(timeout)
    if not hosts.isdecimal() or int(hosts) < 1:
        raise UserError(f"--hosts={hosts}: must be {AUTO} or the number of hosts")
    if int(hosts) == 1:
        return None
    if not host.isdecimal() or int(host) >= int(hosts):
        raise UserError(f"--host={host}: must be this host's index, 0 to {int(hosts) - 1}")
    return Place(int(host), int(hosts), _address(coordinator))


@contextlib.contextmanager
def together(
    here: Place | None,
    facts: Mapping[str, Any],
    workdir: Path | None,
    *,
    timeout: float = TIMEOUT,
    talking: bool = False,
) -> Iterator[None]:
    """Within it this host is one of several; before any use of JAX's devices.

    Args:
      here: from `place`; None: nothing happens.
      facts: what all hosts must agree on, by the name that errors give it; ready for JSON.
      workdir: must be shared by all hosts.
      timeout: seconds that hosts have to come up.
      talking: devices of several hosts compute together.

    Raises:
      UserError: a host that is missing or disagrees (names it and what on); a workdir that is not
        shared; a port that is taken.
    """
    global _line
    if here is None:
        yield
        return
    facts = {"--hosts": here.count, "the source of ttc_jax": _digest(), **facts}
    _line = _Line(here, json.loads(json.dumps(facts)), timeout)  # tuples come back as lists
    try:
        if workdir is not None:
            _line.check_shared(workdir)
        import jax  # here: who waits for a host waits for nothing else

        address, port = here.coordinator
        # It would keep SIGTERM from ending a run; one that is ended goes on when it is given again.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            f"{address}:{port + 1}",
            here.count,
            here.index,
            local_device_ids=here.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=int(timeout),
        )
        jax.devices()  # every host's: they are exchanged now
        if not talking:
            jax.distributed.shutdown()
        yield
        _line.wait(_LAST)
    except BaseException as error:
        _line.tell(error)
        if talking:  # at exit JAX waits for the others, and aborts when they have ended
            _print(error)
            _line.exit(2 if isinstance(error, UserError) else 1)
        raise
    finally:
        _line = None


_line: _Line | None = None


def _detected(timeout: float) -> Place | None:
    # JAX knows how many schedulers say it, and has no public name for asking.
    from jax._src.clusters import ClusterEnv

    try:
        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout)
        )
    except (RuntimeError, OSError) as error:
        raise UserError(f"--hosts={AUTO}: the hosts cannot be found out: {error}") from error
    if address is None or count is None or index is None:
        raise UserError(
            f"--hosts={AUTO}: neither a TPU pod nor a job of Slurm or Open MPI; give --hosts=COUNT "
            "--host=INDEX --coordinator=ADDRESS:PORT"
        )
    return Place(index, count, _address(address), devices) if count > 1 else None


def _address(text: str) -> tuple[str, int]:
    name, _, port = text.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 65535:
        raise UserError(
            f"--coordinator={text}: must be the first host's ADDRESS:PORT, as in 10.0.0.1:8476; "
            "the port behind it is used too"
        )
    return name, int(port)


def _digest() -> str:
    """Of the package's source, which an edited checkout need not share with its version."""
    found = hashlib.sha256()
    root = Path(ttc_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


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


class _Line:
    """What connects the hosts: the first with each other one, from the roll call to the end."""

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
        """See the function."""
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
        self._ending.acquire()
        reason = str(error) or type(error).__name__
        for peer in self._peers:
            peer.send(error=f"host {self.here.index} ended: {reason}")

    def _watch(self, peer: _Peer) -> None:
        while message := peer.receive():
            if "error" in message:
                self._end(message["error"])
            self._arrived.put((peer, message["at"]))
            if message["at"] == _LAST:
                return
        self._end(f"{peer.name} is gone, its own output may say why; {_SAFE}")

    def _end(self, reason: str) -> None:
        """Ends this process, whatever it is at: what it wrote is whole, as after a kill."""
        self._ending.acquire()  # for good: the first reason is the one that is told
        for peer in self._peers:
            peer.send(error=reason)
        _print(UserError(reason))
        self.exit(2)

    def exit(self, code: int) -> NoReturn:
        """Ends this process without any clean-up."""
        if self.here.index == 0:
            time.sleep(_SETTLE)  # JAX aborts, with a stack trace, where it loses the first host
        os._exit(code)


def _print(error: BaseException) -> None:
    """As the command does when an error ends it."""
    print(file=sys.stderr)  # behind a progress line
    if isinstance(error, UserError):
        print(f"ttc: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


_line: _Line | None = None


def _detected(timeout: float) -> Place | None:
    # JAX knows how many schedulers say it, and has no public name for asking.
    from jax._src.clusters import ClusterEnv

    try:
        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout)
        )
    except (RuntimeError, OSError) as error:
        raise UserError(f"--hosts={AUTO}: the hosts cannot be found out: {error}") from error
    if address is None or count is None or index is None:
        raise UserError(
            f"--hosts={AUTO}: neither a TPU pod nor a job of Slurm or Open MPI; give --hosts=COUNT "
            "--host=INDEX --coordinator=ADDRESS:PORT"
        )
    return Place(index, count, _address(address), devices) if count > 1 else None


def _address(text: str) -> tuple[str, int]:
    name, _, port = text.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 65535:
        raise UserError(
            f"--coordinator={text}: must be the first host's ADDRESS:PORT, as in 10.0.0.1:8476; "
            "the port behind it is used too"
        )
    return name, int(port)


def _digest() -> str:
    """Of the package's source, which an edited checkout need not share with its version."""
    found = hashlib.sha256()
    root = Path(ttc_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


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


class _Line:
    """What connects the hosts: the first with each other one, from the roll call to the end."""

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
        """See the function."""
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
        self._ending.acquire()
        reason = str(error) or type(error).__name__
        for peer in self._peers:
            peer.send(error=f"host {self.here.index} ended: {reason}")

    def _watch(self, peer: _Peer) -> None:
        while message := peer.receive():
            if "error" in message:
                self._end(message["error"])
            self._arrived.put((peer, message["at"]))
            if message["at"] == _LAST:
                return
        self._end(f"{peer.name} is gone, its own output may say why; {_SAFE}")

    def _end(self, reason: str) -> None:
        """Ends this process, whatever it is at: what it wrote is whole, as after a kill."""
        self._ending.acquire()  # for good: the first reason is the one that is told
        for peer in self._peers:
            peer.send(error=reason)
        print(f"\nttc: {reason}", file=sys.stderr, flush=True)
        os._exit(2)


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
