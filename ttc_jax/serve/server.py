"""The server process: sockets, signals, and what is compiled before it is ready."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from types import FrameType

import uvicorn

from ttc_jax.errors import UserError
from ttc_jax.serve.app import Api
from ttc_jax.serve.backend import Backend
from ttc_jax.serve.keys import Keys
from ttc_jax.serve.metrics import Metrics
from ttc_jax.serve.service import Service

QUIET_TICKS = 5  # tenths of a second

_log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A server that finishes what it has accepted before it ends.

    The first signal makes it refuse new requests and go on until the others are answered; a second
    one ends it at once.

    Args:
      warm: names of strategies with their budgets, "beam-16", or "plain": what is compiled before
        it is ready.
    """

    def __init__(self, service: Service, keys: Keys, warm: Iterable[str] = ("plain",)):
        self.backend, self._warm = Backend(service), tuple(warm)
        self.api = Api(self.backend, keys, Metrics(self.backend.worker))
        self._quiet = 0  # ticks since the last request, once it is to end
        super().__init__(
            uvicorn.Config(
                self.api.app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                ws="none",
                limit_concurrency=4 * service.bounds.requests + 64,
                timeout_graceful_shutdown=5,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until a signal comes.

        Raises:
          UserError: what is to be compiled beforehand cannot be.
        """
        async with self.backend.working():
            compiling = asyncio.ensure_future(self._compile())
            await super().serve(sockets)
            self.backend.forced = self.force_exit
            compiling.cancel()
            [failed] = await asyncio.gather(compiling, return_exceptions=True)
        if isinstance(failed, Exception):
            raise failed

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal that asks the process to end."""
        del sig, frame
        if self.api.stopping:
            self.force_exit = self.should_exit = True
        self.api.stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Returns whether the server ends, ten times a second."""
        if self.api.stopping:
            self._quiet = 0 if self.api.in_flight else self._quiet + 1
            # First no more connections are taken. Requests of those that there are, which have
            # come and are not read yet, are to be refused and not dropped.
            if self._quiet == QUIET_TICKS:
                for server in self.servers:
                    server.close()
            self.should_exit |= self._quiet > 2 * QUIET_TICKS
        return await super().on_tick(counter)

    async def _compile(self) -> None:
        """Compiles what is wanted beforehand, and then calls the server ready."""
        try:
            await self.backend.compile(self._warm)
        except Exception:
            self.api.stopping = True
            raise
        self.api.ready = True
        _log.info("ready")


def bound(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Args:
      port: 0: any that is free.

    Raises:
      UserError: the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--config.serve.host={host} --config.serve.port={port}: {reason.lower()}"
        ) from error
    return found
