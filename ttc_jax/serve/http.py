"""Bodies that are read, and answers that are written, while the client may leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ttc_jax.serve.errors import ApiError

T = TypeVar("T")
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy would hold events back
)


class ClientLeft(Exception):
    """The client does not wait for the answer any more."""


async def body_of(request: Request, most: int, seconds: float) -> bytes:
    """Returns the body of a request.

    Args:
      most: bytes.
      seconds: in which it has to come.

    Raises:
      ApiError: it is larger, or slower.
    """
    too_large = ApiError(413, f"the body is larger than {most} bytes", code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                found += chunk
                if len(found) > most:
                    raise too_large
    except TimeoutError as error:
        raise ApiError(408, f"the body did not come within {seconds:g} seconds") from error
    return bytes(found)


async def until_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Returns what some work returns; ends it where the client leaves before.

    Raises:
      ClientLeft: it did.
    """
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Events:
    """A stream of server-sent events, which ends when the client leaves.

    Args:
      events: as bytes.
      room: what the request holds as long as it is there.
      seconds: after which it ends: a client that does not read would hold it forever.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], room: contextlib.ExitStack, seconds: float
    ):
        self._events, self._room, self._seconds = events, room, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Writes the events."""
        del scope

        async def write() -> None:
            start = {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)}
            async for event in self._events:
                if start:
                    await send(start)
                    start = {}
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        with self._room:
            async with contextlib.aclosing(self._events):
                with contextlib.suppress(ClientLeft, OSError, TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await until_left(receive, write())
