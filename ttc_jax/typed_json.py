"""JSON that users and data folders hold, read into typed values.

What has another shape than asked for is one line that names the file and the field; no later code
meets it. Nesting is bounded by the parser, and values never become code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ttc_jax.errors import UserError
from ttc_jax.files import contents

T = TypeVar("T")


def parse_json(text: str | bytes, kind: type[T] | TypeAdapter[T], where: str) -> T:
    """Returns the value of a JSON text.

    Args:
        kind: a type that pydantic knows: a dataclass, `dict[str, float]`, `Literal["a", "b"]`.
        where: what errors call the text, such as a file's path.

    Raises:
        UserError: the text is no JSON, or has another shape; names the field.
    """
    adapter: TypeAdapter[Any] = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error)}") from error


def read_json(path: Path, kind: type[T] | TypeAdapter[T]) -> T:
    """Returns the value in a file, as `parse_json`.

    Raises:
        UserError: the file cannot be read, or as `parse_json`.
    """
    try:
        text = contents(path)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: {reason.lower()}") from error
    return parse_json(text, kind, str(path))


def check(value: Any, kind: Any, where: str) -> Any:
    """Returns a value that was read from JSON as `kind`, and refuses one of another shape.

    Raises:
        UserError: as `parse_json`.
    """
    try:
        return TypeAdapter(kind).validate_python(value, strict=False)
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """Describes the first fault in one line."""
    fault = error.errors(include_url=False, include_context=False)[0]
    if fault["type"] == "json_invalid":
        return f"not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}"
    field = ".".join(map(str, fault["loc"]))
    found = repr(fault["input"])
    if fault["type"] == "missing":
        return f"{field} is missing"
    said = fault["msg"].removeprefix("Input ")
    shown = found if len(found) <= 60 else found[:57] + "..."
    return f"{field + ': ' if field else ''}{said}, found {shown}"
