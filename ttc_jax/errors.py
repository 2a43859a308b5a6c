"""The one error that is the user's to mend."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line that names the field or file and the way out. The command line prints it
    to stderr without a traceback and exits with code 2.
    """


@contextlib.contextmanager
def naming(what: object) -> Iterator[None]:
    """Puts a name, such as a file's or a question's, before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
