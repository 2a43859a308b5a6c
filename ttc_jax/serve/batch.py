"""Batches: files of requests in, files of answers out, a line each, as OpenAI's batches have them.

A line that is written is never done again: what was stopped goes on with those that are left.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.serve import logs
from ttc_jax.serve.backend import Backend, parsed
from ttc_jax.serve.errors import ApiError
from ttc_jax.serve.schema import ChatRequest, CompletionRequest
from ttc_jax.typed_json import parse_json

_SCHEMAS = {"/v1/chat/completions": ChatRequest, "/v1/completions": CompletionRequest}


class Line(BaseModel):
    """A request of a batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: Literal["/v1/chat/completions", "/v1/completions"]
    body: dict[str, Any]


class _Written(BaseModel):
    custom_id: str


def requests_of(path: Path) -> Iterator[Line]:
    """Yields the requests in a file.

    Raises:
      UserError: the file cannot be read, or a line that is no request; names the line.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield parse_json(line, Line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def check(path: Path) -> int:
    """Returns how many requests a file holds, all of which are read before the first is answered.

    Raises:
      UserError: as `requests_of`, two requests of one id, a stream, or no request.
    """
    seen = set[str]()
    for line in requests_of(path):
        if line.custom_id in seen:
            raise UserError(f"{path}: two requests have the custom_id {line.custom_id!r:.80}")
        if line.body.get("stream"):
            raise UserError(f"{path}: {line.custom_id!r:.80}: a batch has no streams; leave it out")
        seen.add(line.custom_id)
    if not seen:
        raise UserError(f"{path}: no requests in it")
    return len(seen)


def done(path: Path) -> set[str]:
    """Returns the ids of requests that a file of answers holds, and cuts off half a line.

    Raises:
      UserError: a line that is no answer: the file is another one.
    """
    if not path.exists():
        return set()
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    lines = data[:whole].splitlines()
    found = (parse_json(line, _Written, f"{path}:{i}") for i, line in enumerate(lines, 1))
    return {line.custom_id for line in found}


async def run(backend: Backend, source: Path, target: Path) -> tuple[int, int]:
    """Answers the requests of a file that another file does not hold the answers of.

    Returns:
      How many were answered, and how many of these with an error.
    """
    known, room = done(target), asyncio.Semaphore(backend.service.bounds.requests)
    tasks, counts = set[asyncio.Task[None]](), [0, 0]
    with target.open("ab", buffering=0) as file:

        async def answer(line: Line) -> None:
            try:
                status, body = await _answer(backend, line)
            finally:
                room.release()
            about = {"status_code": status, "request_id": line.custom_id, "body": body}
            row = {"id": f"batch_req_{line.custom_id}", "custom_id": line.custom_id}
            row |= {"response": about, "error": None}
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")  # one call, one line
            counts[0] += 1
            counts[1] += status != 200

        async with asyncio.TaskGroup() as group:
            for line in requests_of(source):
                if line.custom_id not in known:
                    await room.acquire()
                    task = group.create_task(answer(line))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        os.fsync(file.fileno())
    return counts[0], counts[1]


async def _answer(backend: Backend, line: Line) -> tuple[int, dict[str, Any]]:
    """Returns the status and the body of a request's answer."""
    try:
        asked = parsed(line.body, _SCHEMAS[line.url])
        order = await backend.answering.order(asked)
        answers = await backend.answering.answers(order)
        return 200, backend.bodies(asked, order).whole(answers)
    except ApiError as error:
        return error.status, error.body()
    except UserError as error:
        logs.broken(error)
        error = ApiError(500, "the search failed; see the log", code="search_failed")
        return error.status, error.body()


def locked(target: Path) -> Any:
    """Returns what keeps others from writing to a file of answers meanwhile."""
    return files.locked(
        target.with_name(target.name + ".lock"),
        f"{target}: another ttc batch writes to it; wait for it, or name another file",
    )
