"""The connections of the first host with each other one: events, and who has died."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ttc_jax.errors import UserError
from ttc_jax.hosts import roll_call
from ttc_jax.hosts.roll_call import HostId
from ttc_jax.hosts.wire import Message, Peer, printable

END = "end"  # the last event
_SETTLE = 2.0  # seconds that it takes until it is known that another host has died
_SAFE = "what is stored is safe: the same command, with as many hosts as you like, goes on from it"


class HostChannel:
    """What connects the hosts, from the roll call to the end.

    Once it is up, a host that dies or fails ends all others, each with one line that names it.

    Args:
      here: which of the hosts this one is.
      facts: what all must agree on, by the name that errors give it; as JSON gives it back.
      workdir: which all share.
      timeout: seconds that hosts have to come up.

    Raises:
      UserError: as the roll call.
    """

    def __init__(self, here: HostId, facts: Mapping[str, Any], workdir: Path, timeout: float):
        self.here = here
        self._arrived: queue.SimpleQueue[tuple[Peer, str]] = queue.SimpleQueue()
        self._ending = threading.Lock()
        if here.index == 0:
            self._peers = roll_call.take(here, facts, workdir, timeout)
        else:
            self._peers = [roll_call.answer(here, facts, workdir, timeout)]
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
            peer.send(Message(at=event))
        if self.here.index > 0:
            self._arrived.get()

    def tell(self, error: BaseException) -> None:
        """Tells the others why this host ends."""
        if not isinstance(error, UserError | KeyboardInterrupt):
            time.sleep(_SETTLE)
        self._ending.acquire()  # for good: what the others answer ends nothing here
        reason = str(error) or type(error).__name__
        for peer in self._peers:
            peer.send(Message(error=f"host {self.here.index} ended: {reason}"))

    def _watch(self, peer: Peer) -> None:
        while message := peer.receive():
            if message.error:
                self._end(printable(message.error))
            self._arrived.put((peer, message.at))
            if message.at == END:
                return
        self._end(f"{peer.name} is gone, its own output may say why; {_SAFE}")

    def _end(self, reason: str) -> None:
        """Ends this process, whatever it is at: what it wrote is whole, as after a kill."""
        self._ending.acquire()  # for good: the first reason is the one that is told
        for peer in self._peers:
            peer.send(Message(error=reason))
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
