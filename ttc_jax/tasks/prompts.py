"""How a question becomes a prompt: plain or chat, with or without worked examples."""

import contextlib
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttc_jax.errors import UserError, naming
from ttc_jax.tasks.task import Question

if TYPE_CHECKING:
    from ttc_jax.models.tokenizers import Tokenizer

EARLIER = 4  # answers that a revision model sees at most, the latest ones (paper section 6.1)
_SLOT = "{question}"


@dataclass(frozen=True)
class PromptFormat:
    r"""How a question becomes the tokens of a prompt (Snell et al., 2024, prompt with four shots).

    A plain prompt is the shots and the question, separated by blank lines; a shot is the template
    followed by its solution, on a new line unless the template ends in white space:

        PromptFormat("Q: {question}\nA:", shots=(("1+1?", "1+1=2"),))

        Q: 1+1?
        A:
        1+1=2

        Q: 2+3?
        A:

    A chat prompt gives the same as turns: the system turn, then a user turn (the template) and an
    assistant turn (the solution) for each shot, then the question's user turn.

    Attributes:
        template: The user's text. `{question}` is replaced literally, so that braces in questions
            and in the rest of the template stay what they are.
        chat: Whether to wrap the text in the tokenizer's chat template.
        system: The system turn of a chat; "" for none.
        shots: Worked (question, solution) pairs put before the question.
        revision: What stands behind each earlier answer where a model revises, such as the turn of
            a user who asks for another try; "" for the model's end token alone.
        stop: Text that ends an answer, beyond the model's end tokens: any token that contains it
            does. A model that was never taught to stop goes on with a question of its own, behind
            the blank line that stands between shots. It ends no thought. "" for none.
        chat_template_kwargs: Arguments of the tokenizer's chat template, as JSON:
            '{"enable_thinking": false}'; or as a dictionary. "" for none.

    Raises:
        UserError: A field is of another kind; the template lacks `{question}`; a system turn or
            arguments of the chat template are given without `chat`; or these are not a JSON object.
    """

    template: str = _SLOT
    chat: bool = False
    system: str = ""
    shots: tuple[tuple[str, str], ...] = ()
    revision: str = ""
    stop: str = ""
    chat_template_kwargs: str | Mapping[str, Any] = ""

    def __post_init__(self) -> None:
        for name in ("template", "system", "revision", "stop"):
            if not isinstance(getattr(self, name), str):
                raise self._fault(name, "text")
        if not isinstance(self.chat, bool):
            raise self._fault("chat", "True or False")
        # Hashable, whatever they were given as: searches are kept by it.
        object.__setattr__(self, "shots", self._pairs())
        object.__setattr__(self, "chat_template_kwargs", self._kwargs())
        if _SLOT not in self.template:
            raise UserError(f"prompt template {self.template!r} lacks {_SLOT}: put it in")
        if self.system and not self.chat:
            raise UserError("prompt system turn without chat: set chat=True or leave system empty")
        if self.arguments and not self.chat:
            raise UserError(
                f"prompt.chat_template_kwargs={self.chat_template_kwargs} without chat: set "
                "prompt.chat=True or leave it empty"
            )

    def encode(self, question: str | Question, tokenizer: "Tokenizer") -> list[int]:
        """The prompt of a question as P token ids.

        A question that ends a conversation is put into the chat template with its own turns, in
        place of the system turn, the shots and the template of this format.

        Raises:
            UserError: `chat` is set and the tokenizer has no chat template, or one that does not
                take the turns or its arguments; or the tokenizer cannot write the text.
        """
        arguments = {"arguments": self.arguments} if self.arguments else {}
        if isinstance(question, Question) and question.turns:
            turns = [{"role": role, "content": content} for role, content in question.turns]
            return tokenizer.chat(turns, **arguments)
        text = question if isinstance(question, str) else question.text
        if not self.chat:
            return tokenizer.encode(self.text(text), add_bos=True)
        return tokenizer.chat(self.messages(text), **arguments)

    def front(self, tokenizer: "Tokenizer") -> list[int]:
        """The tokens with which prompts begin, whatever is asked.

        A tokenizer may join a question's first letters to what stands before them: so few prompts
        may still begin otherwise.
        """
        # Two questions will tell: one of no words, and one of words that the tokenizer must know.
        known = (*itertools.chain(*self.shots), self.template.replace(_SLOT, ""), self.system)
        asked = next(filter(None, known), "")
        prompts = self.encode("", tokenizer), self.encode(asked, tokenizer)
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*prompts, strict=False))
        return [token for token, _ in alike]

    def between(self, tokenizer: "Tokenizer") -> list[int]:
        """The tokens of `revision`, else the tokenizer's end token, if it has one."""
        if not self.revision:
            return list(tokenizer.eos_ids[:1])
        with naming("prompt.revision"):
            return tokenizer.encode(self.revision)

    def ends(self, tokenizer: "Tokenizer") -> tuple[int, ...]:
        """The tokens that end an answer.

        Raises:
            UserError: No token contains `stop`.
        """
        if not self.stop:
            return tokenizer.eos_ids
        stops = tokenizer.containing(self.stop).nonzero()[0].tolist()
        if not stops:
            raise UserError(
                f"prompt.stop {self.stop!r} is in no token of the model: choose another"
            )
        return tuple(sorted({*tokenizer.eos_ids, *stops}))

    def text(self, question: str) -> str:
        """The plain prompt, as text."""
        shots = [_join(self._fill(asked), solution) for asked, solution in self.shots]
        return "\n\n".join([*shots, self._fill(question)])

    def messages(self, question: str) -> list[dict[str, str]]:
        """The turns of the chat prompt, each with `role` and `content`."""
        turns = [("system", self.system)] if self.system else []
        for asked, solution in self.shots:
            turns += [("user", self._fill(asked)), ("assistant", solution)]
        turns.append(("user", self._fill(question)))
        return [{"role": role, "content": content} for role, content in turns]

    @functools.cached_property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the chat template: what `chat_template_kwargs` says."""
        found: Any = self.chat_template_kwargs or {}
        if isinstance(found, str):
            with contextlib.suppress(ValueError, RecursionError):
                found = json.loads(found)
        if not isinstance(found, Mapping):
            raise _no_arguments(found)
        return found

    def _pairs(self) -> tuple[tuple[str, str], ...]:
        """The shots, as tuples."""
        found: Any = self.shots
        if isinstance(found, Sequence) and not isinstance(found, str):
            pairs: list[Any] = [tuple(x) if isinstance(x, list | tuple) else () for x in found]
            if all(len(x) == 2 and all(isinstance(text, str) for text in x) for x in pairs):
                return tuple(pairs)
        raise self._fault("shots", 'pairs of texts, such as (("1+1?", "2"),)')

    def _kwargs(self) -> str:
        """The arguments of the chat template, as JSON."""
        found: Any = self.chat_template_kwargs or ""
        if isinstance(found, str):
            return found
        try:
            return json.dumps(dict(found) if isinstance(found, Mapping) else found)
        except (TypeError, ValueError, RecursionError) as error:
            raise _no_arguments(found) from error

    def _fault(self, name: str, wanted: str) -> UserError:
        return UserError(f"prompt.{name} is {getattr(self, name)!r:.80}; it must be {wanted}")

    def _fill(self, question: str) -> str:
        return self.template.replace(_SLOT, question)


def _no_arguments(found: object) -> UserError:
    return UserError(
        f"prompt.chat_template_kwargs={' '.join(str(found).split()):.200}: must be a JSON object, "
        """such as '{"enable_thinking": false}'"""
    )


def with_answers(
    prompt: Sequence[int],
    answers: Sequence[Sequence[int]],
    between: Sequence[int],
    ends: Sequence[int],
) -> list[int]:
    """The prompt of a revision: a question's prompt and the latest `EARLIER` answers to it.

    Args:
        prompt: The question's, [P].
        answers: Tokens of the earlier answers, oldest first, with or without an end token.
        between: What stands behind each of them (`PromptFormat.between`).
        ends: Tokens that end an answer.
    """
    tokens = list(prompt)
    for answer in answers[-EARLIER:]:
        text = answer[:-1] if answer and answer[-1] in ends else answer
        tokens += [*text, *between]
    return tokens


def _join(prompt: str, solution: str) -> str:
    return prompt + ("" if prompt[-1:].isspace() else "\n") + solution
