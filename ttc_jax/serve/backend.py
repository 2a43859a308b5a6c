"""The part of a server behind its paths: programs, the worker, and what answers with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

from pydantic import ValidationError

from ttc_jax.search.request import PromptBuckets
from ttc_jax.serve.answering import Answering
from ttc_jax.serve.bodies import Bodies
from ttc_jax.serve.errors import of_validation
from ttc_jax.serve.orders import Order
from ttc_jax.serve.programs import Programs
from ttc_jax.serve.schema import ChatRequest, CompletionRequest
from ttc_jax.serve.service import Service
from ttc_jax.serve.worker import Worker

T = TypeVar("T", ChatRequest, CompletionRequest)


class Backend:
    """What answers requests, whoever brings them.

    Attributes:
      forced: whether `working` ends without waiting for what is searched.
    """

    def __init__(self, service: Service):
        self.service, self.programs = service, Programs(service)
        self.worker = Worker(self.programs.compiled, service.programs)
        self.answering = Answering(service, self.programs, self.worker)
        self.forced = False

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Runs the worker meanwhile."""
        self.worker.start()
        try:
            yield
        finally:
            self.answering.close()
            if not self.forced:
                await asyncio.to_thread(self.worker.stop)
            self.programs.close()

    async def compile(self, names: Iterable[str]) -> None:
        """Compiles what is wanted beforehand; see `Programs.warm`."""
        for search in [search for name in names for search in self.programs.warm(name)]:
            for size in self.programs.sizes():
                compiled = self.programs.compiled(search, PromptBuckets(size, size))
                await asyncio.wrap_future(compiled)

    def bodies(self, asked: ChatRequest | CompletionRequest, order: Order) -> Bodies:
        """Returns what writes the answers to a request."""
        return Bodies(asked, order, self.service.models.tokenizer, self.service.name)


def parsed(body: Any, schema: type[T]) -> T:
    """Returns a request, checked against its schema.

    Raises:
      ApiError: it is none; names the field.
    """
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        raise of_validation(error, body) from error
