"""Log messages of a command: our own, and of the libraries only what matters."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def set_up() -> None:
    """Sends our own messages to stderr, and of the libraries only warnings and errors."""
    from absl import logging as absl_logging

    # transformers would say on every start that it found no torch, which ttc_jax does not need.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    handler = logging.StreamHandler()
    handler.addFilter(_is_shown)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[handler]
    )
    absl_logging.set_verbosity(absl_logging.INFO)


def _is_shown(record: logging.LogRecord) -> bool:
    """Whether a message is our own, or a warning or an error of a library.

    Errors in the threads of Orbax are left out: it raises them again, and we tell them in one line.
    """
    path = Path(record.pathname)
    if path.is_relative_to(Path(__file__).parent):
        return True
    told_again = record.exc_info and ("orbax" in path.parts or record.name == "asyncio")
    return record.levelno >= logging.WARNING and not (
        told_again and not os.environ.get("TTC_DEBUG")
    )


def unless_closed(shown: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Returns a hook that shows exceptions nobody can catch, but for those an ended job leaves.

    Threads of TensorStore go on for a moment when Orbax has given up, for which they are told that
    its event loop is closed.
    """

    def show(what: Any) -> None:
        if (type(what.exc_value), str(what.exc_value)) != (RuntimeError, "Event loop is closed"):
            shown(what)

    return show
