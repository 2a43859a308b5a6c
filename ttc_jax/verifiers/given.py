"""Solutions that are given as texts: how a verifier is shown them, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.steps import StepFormat


class Shown(NamedTuple):
    """A solution in the tokens that a verifier reads.

    Attributes:
      prompt: what stands before it.
      steps: the tokens of each step.
      read: the place in each step's tokens where its score stands.
    """

    prompt: list[int]
    steps: list[list[int]]
    read: list[int]


class Writer(Protocol):
    """Writes solutions in the tokens that a verifier reads."""

    tokenizer: Tokenizer
    step_format: StepFormat  # of what the verifier is still to be shown in place of its tokens

    def write(self, question: str, steps: Sequence[str], *, finished: bool = True) -> Shown:
        """Returns a solution in tokens.

        Args:
          finished: whether it ends with its last step.

        Raises:
          UserError: a text that the tokenizer cannot write.
        """
        ...


class GeneratorWriter:
    """Writes solutions as the generator would have: a delimiter ends a step, an end token the last.

    Args:
      tokenizer: the generator's.
      prompt: gives the tokens of a question's prompt.
      end_tokens: that end an answer; none: the last step ends with its text.
      delimiter: text that ends a step.
      step_format: what the verifier is shown of a step.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Callable[[str], list[int]],
        end_tokens: Sequence[int],
        delimiter: str,
        step_format: StepFormat,
    ):
        self.tokenizer, self.step_format = tokenizer, step_format
        self._prompt, self._delimiter = prompt, delimiter
        self._end = list(end_tokens[:1])

    def write(self, question: str, steps: Sequence[str], *, finished: bool = True) -> Shown:
        """Returns a solution in tokens; see `Writer`."""
        shown = []
        for place, step in enumerate(steps, 1):
            ends = finished and place == len(steps)
            text = step if ends else step.removesuffix(self._delimiter) + self._delimiter
            shown.append(self.tokenizer.encode(text, inside=True) + (self._end if ends else []))
        return Shown(self._prompt(question), shown, [len(step) - 1 for step in shown])


class PRMWriter:
    """Writes solutions in the format of a PRM that was trained elsewhere.

    Args:
      adapter: of the PRM, over the bridge: the marks of its format are among the tokens.
      tokenizer: the PRM's.
    """

    step_format = StepFormat()

    def __init__(self, adapter: PRMAdapter, tokenizer: Tokenizer):
        self._adapter, self.tokenizer = adapter, tokenizer

    def write(self, question: str, steps: Sequence[str], *, finished: bool = True) -> Shown:
        """Returns a solution in tokens; see `Writer`. Its last mark stands behind any last step."""
        del finished
        found = [self._adapter.step(step, first=i == 0) for i, step in enumerate(steps)]
        return Shown(
            self._adapter.prompt(question), [tokens for tokens, _ in found], [at for _, at in found]
        )
