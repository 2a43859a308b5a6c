"""The reading of what a search wrote: whole completions, and pieces of them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ttc_jax.llm.output import Completion, Piece
from ttc_jax.llm.settled import SettledText
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.search.engine import Drafts
from ttc_jax.search.search import SearchResult
from ttc_jax.verifiers.texts import text_of


def completion_of(
    found: SearchResult,
    i: int,
    tokenizer: Tokenizer,
    stop: Sequence[str],
    most: int,
    log_probs: Sequence[float] | None = None,
) -> Completion:
    """Returns what a row wrote.

    Args:
      i: the row.
      stop: texts that end it, and are not part of it.
      most: tokens that it could have.
      log_probs: of its tokens, where they are asked for.
    """
    tokens, thought = found.tokens[i, : found.lengths[i]].tolist(), found.thought_of(i)
    whole, text = (text_of(tokens[thought:], tokenizer, x) for x in ((), stop))
    late = found.cut and len(tokens) < most
    stopped = bool(found.finished[i]) or text != whole
    return Completion(
        text=text,
        token_ids=tuple(tokens),
        log_prob=float(found.log_prob[i]),
        log_probs=None if log_probs is None else tuple(log_probs),
        finish_reason="stop" if stopped else "deadline" if late else "length",
        step_scores=found.scores_of(i),
        reasoning=tokenizer.decode(tokens[:thought], inside=True),
    )


class Unfolding:
    """The texts of a prompt's completions, piece by piece as they settle.

    Args:
      prompt: token ids.
      stop: texts that end a completion.
      n: completions.
      thinking: of a model that thinks; its thought is no part of the texts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        stop: Sequence[str],
        n: int,
        thinking: Thinking | None,
    ):
        self._settled, self._prompt, self._thinking = SettledText(tokenizer, stop), prompt, thinking
        self._sent = [0] * n

    def pieces(self, drafts: Drafts) -> Iterator[Piece]:
        """Yields what has settled since the last time."""
        for i, length in enumerate(drafts.lengths.tolist()):
            row, active = drafts.tokens[i, :length].tolist(), bool(drafts.active[i])
            if self._thinking is not None:
                if active and self._thinking.is_before(row, self._prompt):
                    continue  # what it has written may yet become part of a thought
                row = row[self._thinking.thought_of(row, self._prompt) :]
            yield from self._on(i, self._settled.of(row, ended=not active))

    def rest(self, completions: Sequence[Completion]) -> Iterator[Piece]:
        """Yields what is left of whole completions."""
        for i, completion in enumerate(completions):
            yield from self._on(i, completion.text)

    def _on(self, i: int, text: str) -> Iterator[Piece]:
        if len(text) > self._sent[i]:
            yield Piece(text[self._sent[i] :], i)
            self._sent[i] = len(text)
