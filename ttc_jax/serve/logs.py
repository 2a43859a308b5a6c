"""The log of a server: a JSON object a line, one for each request, and no text of any.

Neither prompts nor answers are written, nor messages that may hold parts of them.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_log = logging.getLogger("ttc_jax.serve")


class _Json(logging.Formatter):
    """Writes records as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a line."""
        line: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname}
        about = getattr(record, "about", None)
        line |= about if about is not None else {"message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up() -> None:
    """Sends all messages of the process to stderr, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    for old in logging.root.handlers:
        for kept in old.filters:
            handler.addFilter(kept)
    logging.root.handlers = [handler]
    quiet()


def quiet() -> None:
    """Lets tasks not tell of answers that they cannot read."""
    logging.getLogger("ttc_jax.tasks").setLevel(logging.WARNING)


class Line:
    """What the log says of a request.

    Attributes:
      model, code, usage: of the request, as far as it came.
      seconds: that it took.
      ended: whether the line is written.
    """

    def __init__(self, path: str):
        self.path, self.model, self.code = path, "", ""
        self.usage: dict[str, Any] = {}
        self.seconds, self.ended, self._began = 0.0, False, time.monotonic()

    def write(self, status: int) -> None:
        """Writes the line."""
        self.seconds, self.ended = time.monotonic() - self._began, True
        about = {"path": self.path, "status": status, "seconds": round(self.seconds, 4)}
        about |= {"model": self.model[:80]} if self.model else {}
        about |= {"code": self.code} if self.code else {}
        _log.info("request", extra={"about": about | self.usage})


def broken(error: BaseException) -> None:
    """Logs an error of the server's own, with where it came from but not what it says.

    Messages may hold a client's text.
    """
    trace, places = error.__traceback__, list[str]()
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    about = {"error": type(error).__name__, "at": places[-8:]}
    _log.error("error", extra={"about": about})
