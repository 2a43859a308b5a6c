"""What the search asks of a verifier, whatever it is."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.sampling.sampler import DecodeState
from ttc_jax.verifiers.formats import PRMFormat
from ttc_jax.verifiers.steps import StepFormat

CONTEXT_PIECE = 64  # tokens of a context that are read at a time


@runtime_checkable
class Verifier(Protocol):
    """Scores steps, incrementally: it keeps what it has read of every candidate.

    An `nnx.Module`, whose parameters may be none. Scores lie in [0, 1] and higher is better.
    """

    @property
    def step_format(self) -> StepFormat:
        """What it is shown of a step."""
        ...

    @property
    def format(self) -> PRMFormat | None:
        """How it wants to be asked, if it was not trained here; None: as the generator is."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Its own, where it has a format."""
        ...

    @property
    def every_step(self) -> bool:
        """Whether it scores all steps of a chunk; else just the state at the chunk's end."""
        ...

    @property
    def vocab_size(self) -> int:
        """Of the tokens that it reads; 0 when it reads none."""
        ...

    @property
    def context(self) -> int:
        """Longest prompt and answer, markers included, that it can read; 0 for any."""
        ...

    def start(
        self, prompts: Int[Array, "B P"], lengths: Int[Array, " B"], candidates: int, capacity: int
    ) -> Any:
        """Its state, a pytree, once it has read prompts but for their last token.

        Leaves are `KVCache`s, or arrays [B, N, ...].
        """
        ...

    def read(
        self, tokens: Int[Array, "B N T"], real: Int[Array, "B N"], state: Any, decoded: DecodeState
    ) -> tuple[Float[Array, "B N T"], Any]:
        """The scores of further tokens, of which the first `real` count, as if a step ended there.

        Args:
          decoded: what the generator knows at the end of these tokens.
        """
        ...

    def reread(self, tokens: Int[Array, "B N T"], real: Int[Array, "B N"], state: Any) -> Any:
        """Its state once rows hold their prompt and the first `real` tokens behind it, no more.

        Here begins an answer that has earlier ones in its context.
        """
        ...

    def flops(self, first: int, tokens: int) -> int:
        """FLOPs of reading `tokens` tokens at positions first, first + 1, … from its state."""
        ...
