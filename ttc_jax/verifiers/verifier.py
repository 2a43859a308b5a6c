"""The base class of verifiers: a spec, and three methods that the search calls."""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int

from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.verifiers.formats import PRMFormat
from ttc_jax.verifiers.steps import StepFormat

CONTEXT_PIECE = 64  # tokens of a context that are read at a time


@dataclasses.dataclass(frozen=True)
class VerifierSpec:
    """The properties of a verifier that a search is compiled for.

    Attributes:
      vocab_size: of the tokens that it reads; 0: it reads none.
      max_context: longest prompt and answer, markers included, that it can read; 0: any.
      every_step: whether it scores all steps of a chunk; else just the one at the chunk's end.
      step_format: what it is shown of a step.
      hidden_width: of the generator's hidden states that it reads; 0: it reads none.
      confidence_stats: whether it reads the entropy and the self-certainty of the tokens drawn.
      format: how it is asked, if it was not trained here; None: as the generator is.
      tokenizer: its own, where it has a format.
      reads_texts: whether it reads texts on the host (`verifiers.texts`), and nothing else.
    """

    vocab_size: int = 0
    max_context: int = 0
    every_step: bool = False
    step_format: StepFormat = dataclasses.field(default_factory=StepFormat)
    hidden_width: int = 0
    confidence_stats: bool = False
    format: PRMFormat | None = None
    tokenizer: Tokenizer | None = None
    reads_texts: bool = False

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads prompts and answers, and not just what decoding gives."""
        return self.vocab_size > 0


class Verifier(nnx.Module):
    """Scores steps, incrementally: its state holds what it has read of every candidate.

    Scores lie in [0, 1], and higher is better. A subclass has a `spec` and `score_steps`; one that
    keeps a state has `init` and `reset` too.
    """

    @property
    def spec(self) -> VerifierSpec:
        """The properties that a search is compiled for."""
        raise NotImplementedError

    def init(
        self, prompts: Int[Array, "B P"], lengths: Int[Array, " B"], candidates: int, capacity: int
    ) -> Any:
        """Returns its state, a pytree, once it has read prompts but for their last token.

        Leaves are `KVCache`s, or arrays [B, N, ...].

        Args:
          candidates: N.
          capacity: tokens of an answer, and of what stands before it, that must find room.
        """
        del prompts, lengths, candidates, capacity
        return ()

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: Any, decode: DecodeState
    ) -> tuple[Float[Array, "B N T"], Any]:
        """Returns the scores of further tokens, as if a step ended at each, and its state behind.

        Args:
          count: how many of the tokens are there; others are padding.
          decode: what the generator knows at the end of these tokens.
        """
        raise NotImplementedError

    def reset(self, context: Int[Array, "B N C"], count: Int[Array, "B N"], state: Any) -> Any:
        """Returns its state once rows hold their prompt and the first `count` tokens of a context.

        Here begins an answer that has earlier ones in its context.
        """
        del context, count
        return state

    def flops(self, first: int, tokens: int) -> int:
        """Returns the FLOPs of reading `tokens` tokens from position `first` on."""
        del first, tokens
        return 0


class VerifierWrapper(Verifier):
    """A verifier that does as another one does, but for the methods that a subclass changes.

    Args:
      verifier: the other one.
    """

    def __init__(self, verifier: Verifier):
        self.verifier = verifier

    @property
    def spec(self) -> VerifierSpec:
        """That of the other verifier."""
        return self.verifier.spec

    def init(
        self, prompts: Int[Array, "B P"], lengths: Int[Array, " B"], candidates: int, capacity: int
    ) -> Any:
        """As the other verifier."""
        return self.verifier.init(prompts, lengths, candidates, capacity)

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: Any, decode: DecodeState
    ) -> tuple[Float[Array, "B N T"], Any]:
        """As the other verifier."""
        return self.verifier.score_steps(tokens, count, state, decode)

    def reset(self, context: Int[Array, "B N C"], count: Int[Array, "B N"], state: Any) -> Any:
        """As the other verifier."""
        return self.verifier.reset(context, count, state)

    def flops(self, first: int, tokens: int) -> int:
        """As the other verifier."""
        return self.verifier.flops(first, tokens)
