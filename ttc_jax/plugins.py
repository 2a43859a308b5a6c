"""What users bring in files of their own, which configs name "package.module:Class"."""

import contextlib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from ttc_jax.errors import UserError

T = TypeVar("T")
_CLASS = re.compile(r"(?:^|:)(?!embedded:)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Z]\w*\Z")


def check_named_by_data(name: str, own: str, where: str) -> None:
    """Refuses a class of one's own that data name and the user does not: data is never code.

    Args:
        name: Of a task or strategy, as a summary or a policy holds it.
        own: `config.own`: the names "package.module:Class" that the user allows, with commas.
        where: The file and field, which errors name.

    Raises:
        UserError: The name is of a class to import, and not among `own`.
    """
    if ":" in name and name not in own.split(","):
        raise UserError(
            f"{where}: {name!r} is code of its own, which is not imported because a file says so; "
            f"if you trust it, add --config.own={name}"
        )


def is_class(name: str) -> bool:
    """Returns whether a name is, or ends in, a class of one's own, "package.module:Class"."""
    return _CLASS.search(name) is not None


def imported(name: str, field: str) -> type:
    """The class "package.module:Class", from the Python path or the folder one works in.

    That folder is looked in for a class of one's own alone: else a file there could stand for an
    optional module of some library.

    Args:
        field: Of the config, which errors name.

    Raises:
        UserError: It cannot be imported, or is no class.
    """
    module, _, attribute = name.partition(":")
    own = module.partition(".")[0] != __package__
    if own and os.getcwd() not in sys.path:  # a console script does not see where it is called
        sys.path.append(os.getcwd())
    with calling(f"{field}: {name!r} cannot be imported"):
        found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, type):
        raise UserError(f"{field}: {name!r} is no class")
    return found


def made(
    kind: type[T], options: Mapping[str, Any], name: str, section: str, word: str = "field"
) -> T:
    """An instance of a class that a config names.

    Args:
        options: Keyword arguments of the class.
        name: What the config calls the class.
        section: Of the config that holds the options, which errors name.
        word: What errors call one of them.

    Raises:
        UserError: An option that the class does not have, one that it needs and is not given, or
            what it raises.
    """
    with calling(f"{section}: {name}"):
        signature = inspect.signature(kind)
    known = signature.parameters
    if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        for option in options:
            if option not in known:
                raise UserError(
                    f"{section}.{option}: {name} has no such {word}; "
                    f"it has {', '.join(known) or 'none'}"
                )
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"{section}: {name}: {error}; set {section}.FIELD to it") from error
    with calling(f"{section}: {name}"):
        return kind(**options)


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Turns what a user's own code raises into one line that says what was called and where it was.

    Mistakes that the code names itself, as `UserError`, pass. With TTC_DEBUG in the environment the
    traceback is printed too.

    Args:
        what: The field or file, class and method.

    Raises:
        UserError: The code raised an exception.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if os.environ.get("TTC_DEBUG"):
            traceback.print_exception(error)
        raise UserError(f"{what}: {_described(error)}; mend it (TTC_DEBUG=1 shows all)") from error


def _described(error: BaseException) -> str:
    """An exception in one line: its type, its message, and the line of code that raised it."""
    message = " ".join(str(error).split())[:300]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno]
    own = [frame for frame in frames if "importlib" not in frame.filename]
    # The first two are the call here.
    place = f" ({own[-1].filename}:{own[-1].lineno})" if len(own) > 1 else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"
