"""What users bring in files of their own, which configs name "package.module:Class"."""

import importlib
import os
import sys

from ttc_jax.errors import UserError


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


def imported(name: str, field: str) -> type:
    """The class "package.module:Class", from the Python path or the folder one works in.

    Args:
        field: Of the config, which errors name.

    Raises:
        UserError: It cannot be imported, or is no class.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # a console script does not see the folder it is called in
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{field}: {name!r} cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise UserError(f"{field}: {name!r} is no class")
    return found
