from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.tasks.prompts import PromptFormat, with_answers


class Bytes:
    """A tokenizer of characters; a chat is its turns between angle brackets."""

    vocab_size: int = 256
    eos_ids: tuple[int, ...] = (0,)
    bos_id: int | None = 1

    def encode(self, text: str, add_bos: bool = False, inside: bool = False) -> list[int]:
        return [1] * add_bos + list(text.encode())

    def decode(self, tokens: Sequence[int], inside: bool = False, special: bool = False) -> str:
        return bytes(t for t in tokens if t > 1).decode()

    def chat(
        self, messages: Sequence[dict[str, str]], arguments: Mapping[str, Any] | None = None
    ) -> list[int]:
        turns = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        told = "".join(f"<{name}={value}>" for name, value in (arguments or {}).items())
        return self.encode(f"{turns}<assistant>{told}", add_bos=True)

    def containing(self, text: str) -> np.ndarray:
        return np.array([text == chr(i) for i in range(self.vocab_size)])

    def texts(self) -> list[str]:
        return [chr(i) for i in range(self.vocab_size)]

    def vocabulary(self) -> dict[str, int]:
        return {chr(i): i for i in range(2, self.vocab_size)}

    def save(self, folder: Path) -> None:
        del folder


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"template": 3}, "prompt.template is 3; it must be text"),
        ({"system": None}, "prompt.system is None; it must be text"),
        ({"revision": 3}, "prompt.revision is 3; it must be text"),
        ({"stop": ["="]}, r"prompt.stop is \['='\]; it must be text"),
        ({"chat": "yes"}, "prompt.chat is 'yes'; it must be True or False"),
        ({"shots": "ab"}, "prompt.shots is 'ab'; it must be pairs of texts"),
        ({"shots": [("a",)]}, "prompt.shots is .*; it must be pairs of texts"),
        ({"shots": [("a", 3)]}, "prompt.shots is .*; it must be pairs of texts"),
        ({"shots": 3}, "prompt.shots is 3; it must be pairs of texts"),
        ({"chat_template_kwargs": {"a": {1, 2}}}, "prompt.chat_template_kwargs=.*: must be a JSON"),
        ({"chat_template_kwargs": {(1, 2): 3}}, "prompt.chat_template_kwargs=.*: must be a JSON"),
        ({"chat_template_kwargs": [3]}, "prompt.chat_template_kwargs=.*: must be a JSON"),
    ],
)
def test_a_field_of_another_kind_is_one_line(fields: dict[str, Any], said: str):
    given: dict[str, Any] = {"chat": True}
    with pytest.raises(UserError, match=said) as caught:
        PromptFormat(**given | fields)
    assert "\n" not in str(caught.value)


def test_formats_are_hashable_whatever_they_are_given():
    given: Any = {"shots": [["a", "b"]], "chat_template_kwargs": {"a": [1]}}
    found = PromptFormat(chat=True, **given)
    assert hash(found) == hash(PromptFormat(chat=True, **given))
    assert found.shots == (("a", "b"),)
    assert found.arguments == {"a": [1]}


def shown(prompt: PromptFormat, question: str) -> str:
    tokens = prompt.encode(question, Bytes())
    assert tokens.count(1) == 1
    assert tokens[0] == 1  # begins with the one BOS
    return Bytes().decode(tokens)


def test_plain() -> None:
    assert shown(PromptFormat(), "2+3?") == "2+3?"
    assert shown(PromptFormat("Q: {question}\nA:"), "2+3?") == "Q: 2+3?\nA:"


@pytest.mark.parametrize("told", ['{"think": false, "n": 2}', {"think": False, "n": 2}])
def test_a_chat_template_is_told_its_arguments(told: str | dict[str, Any]) -> None:
    prompt = PromptFormat(chat=True, chat_template_kwargs=told)
    assert shown(prompt, "2+3?") == "<user>2+3?<assistant><think=False><n=2>"


@pytest.mark.parametrize(
    "told", ["{", "[]", "5", "null", "enable_thinking=False", "[" * 100_000, "{'a': 1}"]
)
def test_arguments_that_are_no_json_object_are_refused(told: str) -> None:
    with pytest.raises(UserError, match=r"prompt.chat_template_kwargs=.* must be a JSON object"):
        PromptFormat(chat=True, chat_template_kwargs=told)


def test_arguments_need_a_chat() -> None:
    with pytest.raises(UserError, match=r"prompt.chat_template_kwargs=.* without chat"):
        PromptFormat(chat_template_kwargs='{"enable_thinking": false}')


def test_a_revision_that_cannot_be_written_names_its_field() -> None:
    with pytest.raises(UserError, match=r"prompt.revision: the tokenizer does not know"):
        PromptFormat(revision="é").between(CharTokenizer("abc"))


def test_plain_shots_are_joined_by_blank_lines() -> None:
    prompt = PromptFormat("Q: {question}\nA:", shots=(("1+1?", "2"), ("2+2?", "4")))
    assert shown(prompt, "2+3?") == "Q: 1+1?\nA:\n2\n\nQ: 2+2?\nA:\n4\n\nQ: 2+3?\nA:"
    prompt = PromptFormat("{question}\nA: ", shots=(("1+1?", "2"),))
    assert shown(prompt, "2+3?") == "1+1?\nA: 2\n\n2+3?\nA: "


def test_chat_shots_are_turns() -> None:
    prompt = PromptFormat("Solve {question}", chat=True, system="Be brief.", shots=(("1+1?", "2"),))
    assert shown(prompt, "2+3?") == (
        "<system>Be brief.<user>Solve 1+1?<assistant>2<user>Solve 2+3?<assistant>"
    )
    assert shown(PromptFormat(chat=True), "2+3?") == "<user>2+3?<assistant>"


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_prompts_begin_alike(chat: bool) -> None:
    prompt = PromptFormat("Q: {question}\nA:", shots=(("1+1?", "1+1=2"),), chat=chat)
    front = prompt.front(Bytes())
    assert Bytes().decode(front).endswith("Q: ")
    for question in ("2+3?", "How?", ""):
        assert prompt.encode(question, Bytes())[: len(front)] == front


def test_what_prompts_begin_with_is_told_in_words_that_the_tokenizer_knows() -> None:
    digits = CharTokenizer("123+=?\n")
    assert (
        digits.decode(PromptFormat(shots=(("1+1?", "1+1=2"),)).front(digits)) == "1+1?\n1+1=2\n\n"
    )
    assert not PromptFormat().front(digits)


def test_braces_are_data() -> None:
    prompt = PromptFormat("In \\boxed{} and {x}: {question}", shots=(("{question}", "{0}"),))
    assert shown(prompt, "{question} {y}") == (
        "In \\boxed{} and {x}: {question}\n{0}\n\nIn \\boxed{} and {x}: {question} {y}"
    )


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"lacks \{question\}"):
        PromptFormat("Q: {problem}")
    with pytest.raises(UserError, match="chat=True"):
        PromptFormat(system="Be brief.")


def test_earlier_answers_follow_the_prompt() -> None:
    answers = [[1, 9], [2], [3, 3, 9], [4, 9], [5]]  # 9 ends an answer; two were cut off
    assert with_answers([7, 8], answers[:2], [0], [9]) == [7, 8, 1, 0, 2, 0]
    assert with_answers([7], answers, [0, 9], [9]) == [7, 2, 0, 9, 3, 3, 0, 9, 4, 0, 9, 5, 0, 9]
    assert with_answers([7, 8], [], [0], [9]) == [7, 8]


def test_what_stands_behind_an_earlier_answer() -> None:
    tokenizer = CharTokenizer("abc")
    assert PromptFormat().between(tokenizer) == [1]
    assert PromptFormat(revision="ca").between(tokenizer) == [4, 2]


def test_an_answer_ends_at_the_models_end_tokens_or_at_a_text() -> None:
    tokenizer = CharTokenizer(["a", "\n", ".\n\n", "\n\n"])
    assert PromptFormat().ends(tokenizer) == (1,)
    assert PromptFormat(stop="\n\n").ends(tokenizer) == (1, 4, 5)
    with pytest.raises(UserError, match="'b' is in no token"):
        PromptFormat(stop="b").ends(tokenizer)


def test_a_tokenizer_without_an_end_token_has_nothing_between_answers() -> None:
    tokenizer = CharTokenizer(["a", "b", "\n"])
    tokenizer.eos_ids = ()
    assert PromptFormat("{question}", stop="\n").between(tokenizer) == []
    assert PromptFormat("{question}", stop="\n").ends(tokenizer) == (4,)
