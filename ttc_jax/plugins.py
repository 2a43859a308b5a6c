"""What users bring in files of their own, which configs name "package.module:Class"."""

import importlib
import os
import sys

from ttc_jax.errors import UserError


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
