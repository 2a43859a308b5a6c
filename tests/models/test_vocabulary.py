"""Ids that a model knows."""

from typing import Any

import numpy as np
import pytest

from ttc_jax.errors import UserError
from ttc_jax.models.vocabulary import check_tokens


@pytest.mark.parametrize("tokens", [[], [0, 4], (4,), np.array([0, 4], np.int64), [np.uint8(3)]])
def test_known(tokens: Any) -> None:
    check_tokens(tokens, 5, "a prompt")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0, 5], "a prompt holds the token 5, which the model does not know: its .* ids 0 to 4"),
        ([-1], "holds the token -1"),
        ([2**40], "holds the token 1099511627776"),
        ([2**70], "no token id"),
        ([1.0], "no token id"),
        (["a"], "no token id"),
        ([True], "no token id"),
        ([None], "no token id"),
        ([[1], [2, 3]], "no token id"),
    ],
)
def test_unknown(tokens: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_tokens(tokens, 5, "a prompt")
