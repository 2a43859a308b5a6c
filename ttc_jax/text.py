"""What a text or a name must be, wherever it comes from."""

import unicodedata

from ttc_jax.errors import UserError


def check_text(text: str, what: str) -> None:
    r"""Refuses halves of surrogate pairs, which no encoding can write.

    JSON can spell them ("\ud83d"), and Python puts them for bytes of arguments that are not UTF-8.

    Args:
        what: The field or argument that holds the text, for the error.

    Raises:
        UserError: There is one; the message says where.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} holds what is no Unicode text: {text[error.start]!a}, character "
            f"{error.start + 1}, is half of a pair or a byte that is not UTF-8; take it out"
        ) from error


def check_name(name: str, what: str) -> None:
    """As `check_text`, and refuses control characters and line breaks.

    Names are printed, logged and made into file names.
    """
    check_text(name, what)
    for place, character in enumerate(name, 1):
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            raise UserError(
                f"{what} holds the control character {character!a} as character {place}: a name "
                "must be printable; take it out"
            )
