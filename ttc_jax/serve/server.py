"""The server process: sockets, signals, and what is compiled before it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from types import FrameType
from typing import Any

import uvicorn

from ttc_jax.errors import UserError
from ttc_jax.search.request import PromptBuckets
from ttc_jax.serve.answering import Answering
from ttc_jax.serve.app import Api
from ttc_jax.serve.keys import Keys
from ttc_jax.serve.metrics import Metrics
from ttc_jax.serve.programs import PLAIN, Programs
from ttc_jax.serve.service import Service
from ttc_jax.serve.worker import Worker

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
        self.programs = Programs(service)
        self.worker = Worker(self.programs.compiled, service.programs)
        self._answering = Answering(service, self.programs, self.worker)
        metrics = Metrics(self.worker)
        self.api = Api(service, self._answering, keys, metrics, lambda: self.worker.is_alive)
        self._service, self._warm = service, tuple(warm)
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
        """Serves until a signal comes."""
        async with self._working():
            await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal that asks the process to end."""
        del sig, frame
        if self.api.stopping:
            self.force_exit = self.should_exit = True
        self.api.stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Returns whether the server ends, ten times a second."""
        if self.api.stopping and not self.api.in_flight:
            self.should_exit = True
        return await super().on_tick(counter)

    @contextlib.asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        self.worker.start()
        warming = asyncio.ensure_future(self._compile())
        try:
            yield
        finally:
            warming.cancel()
            [failed] = await asyncio.gather(warming, return_exceptions=True)
            self._answering.close()
            if not self.force_exit:
                await asyncio.to_thread(self.worker.stop)
            self.programs.close()
        if isinstance(failed, Exception):
            raise failed

    async def _compile(self) -> None:
        """Compiles what is wanted beforehand, and then calls the server ready."""
        try:
            for search in self._searches():
                for size in self.programs.sizes():
                    compiled = self.programs.compiled(search, PromptBuckets(size, size))
                    await asyncio.wrap_future(compiled)
        except Exception:
            self.api.stopping = True
            raise
        self.api.ready = True
        _log.info("ready")

    def _searches(self) -> Iterable[Any]:
        for name in self._warm:
            strategy, _, number = name.rpartition("-")
            for tokens in self._service.bounds.answer_tokens:
                if name == "plain":
                    yield self.programs.search(self.programs.kind(PLAIN, 1, tokens))
                elif strategy in self._service.strategies and number.isdecimal():
                    yield self.programs.search(self.programs.kind(strategy, int(number), tokens))
                else:
                    raise UserError(
                        f"--config.serve.warm: {name!r:.40} is neither plain nor a strategy with "
                        "its budget, as in beam-16"
                    )


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
