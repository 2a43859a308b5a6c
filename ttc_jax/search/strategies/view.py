"""The view: what a strategy sees of one question's rows in a selection step."""

from __future__ import annotations

from typing import Final, NamedTuple

from jaxtyping import Array, Bool, Float, Int

STOP: Final = -1  # in place of a row number: the row is cut off where it stands


class View(NamedTuple):
    """The N rows of one question, all at the end of a step.

    Sums and histories are those of a row's whole text, whichever rows wrote it.
    """

    scores: Float[Array, " N"]  # of the last step; higher is better
    active: Bool[Array, " N"]  # rows that are not finished; at least one
    history: Float[Array, "N R"]  # scores of the text's steps, the first one first; 0 behind them
    depth: Int[Array, " N"]  # how many these are
    log_prob: Float[Array, " N"]  # sum over the text's tokens, nats
    lengths: Int[Array, " N"]  # tokens of the text
    round: Int[Array, ""]  # of this answer; 0 is the first
    entropy: Float[Array, " N"] | None = None  # sum over the tokens, with `reads_entropy`; nats
    hidden: Float[Array, "N D"] | None = None  # what the last token was drawn from, `reads_hidden`
