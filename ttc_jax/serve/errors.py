"""The errors that clients are told, in OpenAI's format."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

from ttc_jax.errors import UserError

_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An error that a client is told.

    Args:
      status: of HTTP.
      message: one line that says the way out.
      param: the field of the request that is to be mended; "" where it is none.
      code: a word that programs read; "" for none.
      retry_after: seconds after which another try may be accepted; 0: not said.
    """

    def __init__(
        self, status: int, message: str, param: str = "", code: str = "", retry_after: float = 0
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """The error's type, as OpenAI's clients know it."""
        server = "server_error" if self.status >= 500 else "invalid_request_error"
        return _KINDS.get(self.status, server)

    def body(self) -> dict[str, Any]:
        """Returns what the client is sent."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param or None,
            "code": self.code or None,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """Returns the whole answer."""
        headers = {}
        if self.retry_after:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.code == "stopping":  # so that the client's next request is not lost with this one
            headers["Connection"] = "close"
        return JSONResponse(self.body(), self.status, headers)


@contextlib.contextmanager
def as_api_error(param: str) -> Iterator[None]:
    """Makes of a `UserError` one that the client is told.

    Args:
      param: the field of the request that is to be mended.
    """
    try:
        yield
    except UserError as error:
        raise ApiError(400, str(error), param) from error


def of_validation(error: ValidationError, body: Any) -> ApiError:
    """Returns the error of a body that is not what the schema asks for; names the field."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    paths = [_path(one["loc"], body) for one in found]
    deepest = max(range(len(found)), key=lambda i: len(paths[i]))  # of the branches of a union
    param = ""
    for part in paths[deepest]:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else part
    message = found[deepest]["msg"].removeprefix("Value error, ")
    if found[deepest]["type"] == "extra_forbidden":
        message = "unknown parameter; leave it out"
    return ApiError(400, f"{param[:100]}: {message}" if param else message, param[:100])


def _path(places: Sequence[int | str], body: Any) -> list[int | str]:
    """Returns the places of an error that a body has; others name the branches of a union."""
    found: list[int | str] = []
    for place in places:
        if isinstance(body, dict) and isinstance(place, str) and (place in body or not found):
            body = body.get(place)
        elif isinstance(body, list) and isinstance(place, int) and place < len(body):
            body = body[place]
        elif not (isinstance(body, dict) and place == places[-1]):  # which a missing field is
            continue
        found.append(place)
    return found
