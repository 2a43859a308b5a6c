"""A connection between two hosts: lines of JSON, bounded in length and in time, of known fields."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import time
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from ttc_jax.errors import UserError
from ttc_jax.typed_json import parse_json

LONGEST = 1 << 20  # bytes of a message; a config has some thousand


@dataclasses.dataclass(frozen=True)
class Message:
    """What hosts say to each other; a message has the fields that its moment needs.

    Attributes:
      run, nonce: the first host's greeting: which run it is of, and what the answer must prove.
      host, name, facts, proof: the answer: who it is, and what it was told to do.
      welcome: the first host's word that all have come.
      at: an event that the host has come to.
      error: why the host ends.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    run: str = ""
    nonce: str = ""
    host: int = -1
    name: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    proof: str = ""
    welcome: bool = False
    at: str = ""
    error: str = ""


_MESSAGE = TypeAdapter(Message)
_DEFAULT = dataclasses.asdict(Message())


class Peer:
    """The other end of a connection.

    Attributes:
      index, name: of the host, once it has said so.
    """

    def __init__(self, link: socket.socket, index: int = 0, name: str = "host 0"):
        self.index, self.name = index, name
        self._link, self._read = link, b""
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A machine without power says nothing: it is asked after 10 s, and given up after 40.
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 6)):
            if hasattr(socket, option):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def introduce(self, index: int, name: str) -> None:
        """Notes which host it is, by what it called itself."""
        self.index, self.name = index, f"host {index} ({printable(name)[:100]})"

    def send(self, message: Message) -> None:
        """Says something; nobody may be there to hear it, which reading tells."""
        said = {k: v for k, v in dataclasses.asdict(message).items() if v != _DEFAULT[k]}
        with contextlib.suppress(OSError):
            self._link.sendall(json.dumps(said).encode() + b"\n")

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message; None: the connection is closed, or speaks of something else.

        Args:
          seconds: that the whole message may take, however it is cut; None: as long as it likes.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            while b"\n" not in self._read:
                if len(self._read) > LONGEST:
                    return None
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._link.settimeout(left)
                if not (more := self._link.recv(1 << 16)):
                    return None
                self._read += more
            line, _, self._read = self._read.partition(b"\n")
            self._link.settimeout(None)
            return parse_json(line, _MESSAGE, self.name)
        except (OSError, UserError):
            return None

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._link.close()


def printable(text: str) -> str:
    """A text of another host's, without what would steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
