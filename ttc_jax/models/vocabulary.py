"""Which token ids a model knows, and which of them hold a text."""

from collections.abc import Sequence

import numpy as np

from ttc_jax.errors import UserError


def check_tokens(tokens: Sequence[int] | np.ndarray, vocab_size: int, what: str) -> None:
    """Refuses token ids that a model does not know, in place of which JAX would read others.

    Args:
        tokens: Ids, which must be whole numbers from 0 to `vocab_size` - 1.
        vocab_size: V of the model.
        what: What holds the tokens, for the error, as "a prompt".

    Raises:
        UserError: One of them is none; the message names it.
    """
    try:
        ids = np.asarray(tokens)
    except ValueError:  # lists of different lengths
        ids = np.array([str(tokens)[:40]])
    if not ids.size:
        return
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise UserError(f"{what} holds {ids.flat[0]!s}, which is no token id: ids are integers")
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if wrong.size:
        raise UserError(
            f"{what} holds the token {wrong[0]}, which the model does not know: its vocabulary has "
            f"the ids 0 to {vocab_size - 1}; check that tokenizer and model belong together"
        )


def mask_of(texts: Sequence[str], text: str) -> np.ndarray:
    """[V] bool: the tokens whose text contains `text`, read-only.

    Args:
        texts: [V] the text of each token.
    """
    mask = np.array([text in it for it in texts], bool)
    mask.flags.writeable = False
    return mask
