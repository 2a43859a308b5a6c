"""The paths of the server: who may ask, what is asked, and the answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

import pydantic_core
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.llm.output import Piece
from ttc_jax.serve import bodies, logs
from ttc_jax.serve.answering import Answer
from ttc_jax.serve.backend import Backend, T, parsed
from ttc_jax.serve.bodies import Bodies
from ttc_jax.serve.errors import ApiError
from ttc_jax.serve.http import ClientLeft, Events, body_of, until_left
from ttc_jax.serve.keys import Keys
from ttc_jax.serve.metrics import Metrics
from ttc_jax.serve.names import names_of
from ttc_jax.serve.orders import Order
from ttc_jax.serve.schema import ChatRequest, CompletionRequest

LEFT = 499  # the status of a request whose client did not wait for the answer
_GRACE = 30.0  # seconds beyond a request's own, in which its client reads the answer


class Api:
    """An endpoint of OpenAI's API.

    Attributes:
      ready: whether what is to be compiled beforehand is.
      stopping: whether new requests are refused.
      app: the ASGI application.
    """

    def __init__(self, backend: Backend, keys: Keys, metrics: Metrics):
        self._backend, self._keys, self._metrics = backend, keys, metrics
        service, self._answering = backend.service, backend.answering
        self._service, self._bounds = service, service.bounds
        self._in_flight, self._started = 0, int(time.time())
        self._pace = 1.0  # seconds that a request took lately
        self.ready = self.stopping = False
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._of(ChatRequest), methods=["POST"]),
                Route("/v1/completions", self._of(CompletionRequest), methods=["POST"]),
                Route("/v1/models", self._told(self._models), methods=["GET"]),
                Route("/v1/models/{name:path}", self._told(self._model), methods=["GET"]),
                Route("/metrics", self._told(self._counted), methods=["GET"]),
                Route("/health", self._health, methods=["GET"]),
                Route("/ready", self._ready, methods=["GET"]),
            ],
            exception_handlers={404: _no_path, 405: _no_path, 500: _broken},
        )

    @property
    def in_flight(self) -> int:
        """How many requests wait or are being answered."""
        return self._in_flight

    def _of(self, schema: type[T]) -> Callable[[Request], Awaitable[Any]]:
        """Returns what answers requests of a schema."""

        async def handle(request: Request) -> Any:
            line = logs.Line(request.url.path)
            try:
                self._admit(request)
                return await self._answer(request, schema, line)
            except ApiError as error:
                return self._refuse(error, line)
            except (ClientLeft, ClientDisconnect):
                self._end(line, LEFT)
                return Response(status_code=LEFT)
            except Exception as error:
                logs.broken(error)
                self._end(line, 500)
                return _internal(error).response()

        return handle

    async def _answer(self, request: Request, schema: type[T], line: logs.Line) -> Any:
        with contextlib.ExitStack() as room:
            room.enter_context(self._room())
            data = await body_of(request, self._bounds.body_bytes, self._bounds.body_seconds)
            asked = parsed(_json(data), schema)
            line.model = asked.model
            order = await self._answering.order(asked)
            texts = self._backend.bodies(asked, order)
            if asked.stream:
                if len(order.given) > 1:
                    raise ApiError(400, "prompt: stream one prompt at a time", "prompt")
                room.callback(lambda: line.ended or self._end(line, LEFT))
                events = self._events(order, texts, line)
                return Events(events, room.pop_all(), self._bounds.seconds + _GRACE)
            answers = await until_left(request.receive, self._answering.answers(order))
            self._done(line, answers)
        return JSONResponse(texts.whole(answers))

    async def _events(
        self, order: Order, texts: Bodies, line: logs.Line
    ) -> AsyncGenerator[bytes, None]:
        """Yields the events of a stream."""
        try:
            for index in range(order.spending.choices):
                yield texts.begin(index)
            async for found in self._answering.stream(order):
                if isinstance(found, Piece):
                    yield texts.piece(found.completion, found.text)
                    continue
                self._done(line, [found])
                for chunk in texts.end(found):
                    yield chunk
                yield bodies.DONE
        except ApiError as error:
            self._end(line, error.status)
            yield bodies.error(error)
        except Exception as error:
            logs.broken(error)
            self._end(line, 500)
            yield bodies.error(_internal(error))

    def _admit(self, request: Request) -> None:
        """Refuses who may not ask, and all while the server does not answer."""
        self._check_key(request)
        if self.stopping:
            raise ApiError(503, "the server is stopping; ask another one", code="stopping")
        if not self.ready:
            raise ApiError(503, "the server is still compiling", code="starting", retry_after=5)

    def _check_key(self, request: Request) -> None:
        if not self._keys.accept(request.headers.get("authorization", "")):
            raise ApiError(401, "no valid API key; send: Authorization: Bearer KEY")

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Counts a request as long as it is there; refuses one for which there is no room."""
        if self._in_flight >= self._bounds.requests:
            raise ApiError(
                429,
                f"{self._in_flight} requests are waiting; try again later",
                code="queue_full",
                retry_after=self._pace,
            )
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    def _done(self, line: logs.Line, answers: list[Answer]) -> None:
        ledger = sum((answer.ledger for answer in answers), Ledger())
        self._metrics.spent(ledger)
        line.usage = bodies.usage(answers)
        self._end(line, 200)
        self._metrics.seconds.observe(line.seconds)
        self._pace += 0.1 * (line.seconds - self._pace)

    def _refuse(self, error: ApiError, line: logs.Line) -> Response:
        line.code = error.code or error.param
        self._end(line, error.status)
        return error.response()

    def _end(self, line: logs.Line, status: int) -> None:
        self._metrics.requests.labels(line.path, status).inc()
        line.write(status)

    def _told(self, tell: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Any]]:
        """Returns what answers with a key, without a search."""

        async def handle(request: Request) -> Response:
            try:
                self._check_key(request)
                return tell(request)
            except ApiError as error:
                return error.response()

        return handle

    def _models(self, _: Request) -> Response:
        return JSONResponse(bodies.models(names_of(self._service), self._started))

    def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in names_of(self._service):
            raise ApiError(
                404, f"the model {name!r:.80} does not exist", "model", "model_not_found"
            )
        return JSONResponse(bodies.models([name], self._started)["data"][0])

    def _counted(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def _health(self, _: Request) -> Response:
        alive = self._backend.worker.is_alive
        return JSONResponse({"status": "ok" if alive else "broken"}, 200 if alive else 500)

    async def _ready(self, _: Request) -> Response:
        word = "stopping" if self.stopping else "ready" if self.ready else "starting"
        return JSONResponse({"status": word}, 200 if word == "ready" else 503)


def _json(data: bytes) -> Any:
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}", code="invalid_json") from error


def _internal(error: Exception) -> ApiError:
    """Returns what a client is told of an error that is not its own."""
    if isinstance(error, UserError):  # such as a score that is NaN
        return ApiError(500, "the search failed; see the server's log", code="search_failed")
    return ApiError(500, "an error in the server; see its log", code="internal")


async def _broken(_: Request, error: Exception) -> Response:
    logs.broken(error)
    return _internal(error).response()


async def _no_path(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = f"{request.method} {request.url.path:.80}: there is nothing of this name"
    return ApiError(status, message, code="unknown_url").response()
