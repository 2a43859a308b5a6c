"""The front door: text in, text out, as an application developer would call it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import signature
from typing import Any

import jax
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from tests.models.small import CONFIGS, random_tensors, write_folder
from tests.models.test_tokenizers import trained
from ttc_jax import LLM, PromptFormat, SamplingParams, ThinkingFormat
from ttc_jax.errors import UserError
from ttc_jax.llm.settled import SettledText
from ttc_jax.search.deadline import Deadline
from ttc_jax.search.scheduler import Scheduler
from ttc_jax.search.search import Search
from ttc_jax.search.slots import Done
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.tasks.task import Question
from ttc_jax.verifiers.texts import stopped_at, text_of

EASY, HARD = "03 05 09=11:", "04 07 13 25=88:"
BOX = "\n\\box"  # in every answer to EASY and HARD, and the end of no token
SHORT: dict[str, Any] = {"n": 3, "max_tokens": 24}  # one shape, so that one program serves all


TINY: dict[str, Any] = {"budget": 3, "task": "countdown", "max_tokens": 24}


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM("embedded:generator", rows=6)


class Judge:
    """A reward that keeps what it has seen."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.score: Callable[[Sequence[str]], Any] = lambda texts: [0.5] * len(texts)

    def __call__(self, question: str, solutions: Sequence[str]) -> Any:
        self.seen.append(list(solutions))
        return self.score(solutions)


@pytest.fixture(scope="module")
def judged() -> tuple[LLM, Judge]:
    judge = Judge()
    return LLM("embedded:generator", verifier=judge, rows=6), judge


@pytest.fixture(scope="module")
def chatty(tmp_path_factory) -> LLM:
    """Random weights under a tokenizer of bytes with a chat template: it writes any nonsense."""
    tokenizer = trained(pre_tokenizers.Digits(individual_digits=True), words=True)
    fields = {**CONFIGS["llama"], "vocab_size": len(tokenizer), "max_position_embeddings": 256}
    folder = write_folder(tmp_path_factory.mktemp("chatty"), fields, random_tensors(fields))
    tokenizer.save_pretrained(folder)
    return LLM(str(folder), rows=4)


def test_text_goes_in_and_texts_come_out(llm):
    [output] = llm.generate(EASY, **SHORT)
    assert output.text == output.completions[0].text
    assert len(output.completions) == 3
    assert llm.tokenizer.decode(output.prompt_token_ids) == EASY
    for completion in output.completions:
        assert completion.text == llm.tokenizer.decode(completion.token_ids)
        assert completion.finish_reason == ("stop" if len(completion.token_ids) < 24 else "length")
        assert completion.log_prob < 0
        assert completion.step_scores == ()
    assert output.ledger.generations == 3
    assert output.ledger.decode_tokens == sum(len(x.token_ids) for x in output.completions)


def test_outputs_keep_the_order_and_depend_on_nothing_else(llm):
    several = [EASY, HARD, "02 04 06=20:", HARD, EASY]
    outputs = llm.generate(several, **SHORT)
    assert [llm.tokenizer.decode(x.prompt_token_ids) for x in outputs] == several
    assert llm.generate(HARD, **SHORT) == [outputs[1]]
    assert outputs[3] != outputs[1]  # the same prompt again draws anew
    assert llm.generate([HARD, HARD], **SHORT) == [outputs[1], outputs[3]]
    assert llm.generate(HARD, seed=1, **SHORT) != [outputs[1]]


def test_token_ids_are_a_prompt_as_their_text_is(llm):
    ids = llm.tokenizer.encode(EASY)
    assert llm.generate(ids, **SHORT) == llm.generate(EASY, **SHORT)
    assert len(llm.generate([ids, np.array(ids).tolist()], **SHORT)) == 2


@pytest.mark.parametrize("stop", [BOX, ["never", "="]])
def test_a_stop_text_ends_a_completion_and_is_not_part_of_it(llm, stop):
    [output] = llm.generate(EASY, stop=stop, **SHORT)
    [whole] = llm.generate(EASY, **SHORT)
    text = BOX if stop == BOX else "="
    for completion, other in zip(output.completions, whole.completions, strict=True):
        assert text in other.text  # whose draws are the same
        assert completion.text == other.text[: other.text.index(text)]
        assert completion.finish_reason == "stop"


def test_each_token_has_its_log_probability(llm):
    outputs = llm.generate([EASY, HARD], log_probs=True, **SHORT)
    for completion in [completion for output in outputs for completion in output.completions]:
        assert len(completion.log_probs) == len(completion.token_ids)
        assert all(x <= 0 for x in completion.log_probs)
        assert sum(completion.log_probs) == pytest.approx(completion.log_prob, abs=1e-4)
    [likeliest] = llm.generate(
        EASY, sampling=SamplingParams(temperature=0), log_probs=True, **SHORT
    )
    least = -np.log(llm.tokenizer.vocab_size)
    assert min(likeliest.completions[0].log_probs) > least  # each is the likeliest token


def test_log_probabilities_are_those_that_tokens_were_drawn_by(llm):
    """Also where keys and values are kept in int8, which changes them."""
    prompts = [EASY, HARD]
    long: dict[str, Any] = {"n": 2, "max_tokens": 80}
    rounded = LLM("embedded:generator", cache="int8", rows=6)
    sums = []
    for model in (llm, rounded):
        outputs = model.generate(prompts, log_probs=True, **long)
        for completion in [x for output in outputs for x in output.completions]:
            assert sum(completion.log_probs or ()) == pytest.approx(completion.log_prob, abs=1e-4)
            sums.append(completion.log_prob)
    assert not np.allclose(sums[:4], sums[4:], atol=1e-3)


def test_greedy_completions_are_the_likeliest(llm):
    [output] = llm.generate(EASY, sampling=SamplingParams(temperature=0), **SHORT)
    assert len(set(output.completions)) == 1
    [drawn] = llm.generate(EASY, **SHORT)
    assert output.completions[0].log_prob >= max(x.log_prob for x in drawn.completions) - 1e-4


def ids_of(llm: LLM) -> list[int]:
    return llm.tokenizer.encode(EASY)


@pytest.mark.parametrize(
    "prompts",
    [
        lambda llm: np.array(ids_of(llm)),
        lambda llm: [np.array(ids_of(llm))],
        lambda llm: list(np.array(ids_of(llm))),
        lambda llm: np.str_(EASY),
        lambda llm: np.array([EASY]),
        lambda llm: (EASY,),
        lambda llm: (text for text in [EASY]),
        lambda llm: [tuple(ids_of(llm))],
    ],
)
def test_prompts_may_be_of_numpys_types_and_in_any_order_that_lasts(llm, prompts):
    arguments: dict[str, Any] = {"n": np.int64(3), "max_tokens": np.int32(24), "seed": np.uint8(0)}
    assert llm.generate(prompts(llm), stop=None, **arguments) == llm.generate(EASY, **SHORT)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "prompts is empty"),
        ("", "a prompt is empty"),
        ([[]], "a prompt is empty"),
        (None, "prompts must be a text, token ids or a conversation.*; it is None"),
        (3, "prompts must be .*; it is 3"),
        (b"a", "prompts must be .*; it is b'a'"),
        ({EASY}, "prompts must be .*; it is {'03 05"),
        ({"role": "user", "content": "a"}, "prompts must be .*; it is {'role'"),
        (["a", 3], "a list holds int and str"),
        ([1.0, 2.0], "a list holds float"),
        ([[True]], "True is no message"),
        ([["a"]], "'a' is no message"),
        ([{"role": "user"}], "needs 'role' and 'content'"),
        ([{"role": "user", "content": 3}], "content is 3; it must be text"),
        ([{"role": "user", "content": [{"text": "a"}]}], "content is .*; it must be text"),
        ([{"role": "user", "content": "a"}], "no chat template"),
        ([99999], "a prompt"),
        ([-1], "the token -1"),
        ("é", "é"),
        ("\ud800", "ud800"),
        ("1" * 5000, "context of 512 tokens; shorten the prompt"),
    ],
)
def test_what_is_no_prompt_is_one_line(llm, prompts, said):
    refused(lambda: llm.generate(prompts, **SHORT), said)


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ([], "questions is empty"),
        ("", "a question is empty"),
        ([[]], "a conversation is empty"),
        (None, "questions must be a text, a Question or a conversation.*; it is None"),
        ([3], "questions must be .*; a list holds int"),
        ({"role": "user", "content": "a"}, "questions must be .*; it is {'role'"),
        ([EASY, [{"role": "user"}]], "questions: .* needs 'role' and 'content'"),
        ([{"role": "user", "content": "a"}], "question 'a': .* no chat template"),
        ("1" * 5000, "question '111.*context of 512 tokens; shorten the prompt"),
    ],
)
def test_what_is_no_question_is_one_line(llm, questions, said):
    refused(lambda: llm.solve(questions, **TINY), said)
    refused(lambda: list(llm.solve_stream(questions, **TINY)), said)


def refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


WRONG = {  # arguments that cannot be, and what is said of them
    "n": [(0, "must be at least 1"), (1.5, "must be a whole number"), (True, "must be a whole")],
    "max_tokens": [(0, "must be at least 1"), (-1, "must be"), ("8", "must be"), (8.0, "must be")],
    "seed": [(-1, "must be at least 0"), (2**32, "must be at most"), (None, "must be a whole")],
    "stop": [(3, "must be a text"), ((3,), "must be a text"), (b"a", "must be a text")],
    "sampling": [({"top_k": 3}, "must be SamplingParams"), (0.7, "must be SamplingParams")],
    "log_probs": [(3, "must be True or False")],
    "thinking": [(True, "must be a ThinkingFormat")],
    "deadline": [(0, "must be above 0"), (float("nan"), "must be a finite"), ("1", "must be a")],
    "budget": [(0, "must be at least 1"), ("16", "must be a whole number"), (True, "must be a")],
    "max_step_tokens": [(0, "must be at least 1"), ("a", "must be a whole number")],
    "strategy": [(None, "must be text"), (3, "must be text")],
    "options": [
        ([4], "must be a dictionary"),
        ({"width": [4]}, "must hold numbers and texts"),
        ({1: 2}, "must have texts for names"),
        ({1: 2, "a": 1}, "must have texts for names"),
    ],
    "judge": [(3, "must be text")],
    "policy": [(3, "must be text")],
    "rule": [(3, "must be text")],
    "task": [(3, "must be text")],
    "prompt": [("{question}", "must be a PromptFormat")],
    "score_threshold": [(2, "must be at most 1"), (True, "must be a number")],
    "rows": [(0, "must be at least 1"), (2.5, "must be a whole number")],
    "path": [(3, "must be text"), (None, "must be text")],
    "verifier": [(3, "must be a path or a function of texts")],
    "step_delimiter": [(3, "must be text")],
    "mesh": [(2, "must be a mesh")],
    "dtype": [("float99", "must be a dtype of floats"), (int, "must be a dtype of floats")],
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_that_cannot_be_is_named(llm, name):
    def made(path: Any = "embedded:generator", **options: Any) -> LLM:
        return LLM(path, **options)

    calls = {LLM.generate: llm.generate, LLM.solve: llm.solve, LLM.__init__: made}
    taken = [call for method, call in calls.items() if name in signature(method).parameters]
    assert taken
    for call in taken:
        asked = () if call is made else (EASY,)
        for value, said in WRONG[name]:
            refused(partial(call, *asked, **{name: value}), f"{name} is .*; it {said}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"score_threshold": 0.5}, "score_threshold is 0.5, and there is no verifier"),
        ({"budget": 5, "strategy": "beam", "options": {"width": 4}}, "it can spend 8"),
        ({"strategy": "beem"}, "^strategy: 'beem' is unknown; choose"),
        ({"options": {"width": 4}}, "^options.width: best_of_n has no such option"),
        ({"rule": "most"}, "rule: 'most' is unknown; choose"),
        ({"rule": "best_of_n"}, "rule is best_of_n: .* there is no verifier"),
        ({"task": "countdowns"}, "unknown task"),
        ({"policy": "/nowhere"}, "^policy=/nowhere: no such file"),
        ({"max_tokens": 10**6}, "lower max_tokens"),
        (
            {"thinking": ThinkingFormat("", "=", "", "+", 100)},
            "thinking.minimum is 100: .* no room",
        ),
    ],
)
def test_arguments_that_do_not_go_together(llm, given, said):
    refused(lambda: llm.solve(EASY, **TINY | given), said)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"text": HARD}, "text"),
        ({"answer": "12"}, "answer"),
        ({"turns": (("system", "Add."), ("user", EASY))}, "turns"),
        ({"tolerance": (0.1,)}, "tolerance"),
    ],
)
def test_questions_of_one_id_must_be_one_question(llm, other, field):
    first = Question(id="a", text=EASY, answer="11")
    both = [first, dataclasses.replace(first, **other)]
    said = f"two questions have the id 'a', and differ in their {field}"
    refused(lambda: llm.solve(both, **TINY), said)
    assert len(llm.solve([first, dataclasses.replace(first)], **TINY)) == 2


def test_what_is_not_there_is_one_line(llm, tmp_path):
    refused(lambda: llm.generate(EASY, stop=""), "stop holds an empty text")
    refused(lambda: llm.stream([EASY, HARD]), "prompt holds 2 prompts; stream one at a time")
    refused(lambda: LLM(tmp_path / "gone"), "gone: no such file or folder")
    refused(lambda: LLM(""), "path is empty: name a folder")
    refused(lambda: LLM("embedded:generator", verifier=tmp_path), "^verifier=.*: no folder that")
    refused(lambda: LLM("embedded:generator", step_delimiter=""), "step_delimiter is empty")
    refused(lambda: LLM("embedded:generator", weights="int3"), "weights .* not int3")


def test_a_second_call_of_a_kind_compiles_nothing(llm, caplog):
    def compiled(call: Callable[[], Any]) -> list[str]:
        caplog.clear()
        with jax.log_compiles():
            call()
        said = [x.getMessage()[:40] for x in caplog.records]
        return [text for text in said if text.startswith("Compiling")]

    other = "03 05 09=77:"  # which no answer reaches, so that there are many
    found = [llm.solve(other, **TINY, seed=1)]
    llm.generate(EASY, **SHORT)
    assert not compiled(lambda: llm.generate([HARD, EASY], seed=3, **SHORT))
    assert not compiled(lambda: found.append(llm.solve([other, HARD], **TINY, seed=2)))
    assert not compiled(lambda: found.append(llm.solve(other, **TINY, seed=1, rule="majority")))
    assert found[0][0].alternatives == found[2][0].alternatives
    assert found[0][0].alternatives != found[1][0].alternatives
    assert compiled(lambda: llm.generate(EASY, n=1, max_tokens=9))  # the log does tell


def test_two_calls_at_once_give_what_they_give_alone(llm):
    async def both() -> list[Any]:
        calls = [llm.agenerate(prompt, **SHORT) for prompt in (EASY, HARD)]
        return list(await asyncio.gather(*calls))

    assert asyncio.run(both()) == [llm.generate(EASY, **SHORT), llm.generate(HARD, **SHORT)]


def test_a_budget_is_spent_on_a_question_and_answers_vote(llm):
    [solution] = llm.solve(EASY, **TINY)
    assert (solution.strategy, solution.ledger.generations) == ("best_of_n", 3)
    assert sum(x.votes for x in solution.alternatives) <= 3
    assert solution.answer == (solution.alternatives[0].answer if solution.alternatives else None)
    assert [x.question for x in llm.solve([HARD, EASY], **TINY)] == [HARD, EASY]


def test_devices_change_no_answer(llm, monkeypatch):
    made, begin = [], Search.__init__

    def init(search: Search, *arguments: Any, **options: Any) -> None:
        made.append(options["execution"])
        begin(search, *arguments, **options)

    monkeypatch.setattr(Search, "__init__", init)
    spread = LLM("embedded:generator", rows=6, mesh=make_mesh(2, 1, jax.devices()[:2]))
    found, expected = (one.solve([EASY, HARD], **TINY) for one in (spread, llm))
    for mine, other in zip(found, expected, strict=True):
        assert (mine.answer, mine.alternatives) == (other.answer, other.alternatives)
    assert [(x.shards, x.mesh is not None) for x in made if x.shards == 2] == [(2, True)]


def pieced(pieces: Sequence[Any], n: int) -> list[str]:
    return ["".join(x.text for x in pieces if x.completion == i) for i in range(n)]


@pytest.mark.parametrize("stop", [(), (BOX, BOX + "ed{0", "never")])
def test_pieces_of_a_stream_make_up_the_texts(llm, stop):
    [output] = llm.generate(EASY, stop=stop, **SHORT)
    pieces = list(llm.stream(EASY, stop=stop, **SHORT))
    assert pieces[-1].output == output
    assert pieced(pieces, 3) == [x.text for x in output.completions]
    assert len(pieces) > 6
    assert all(piece.text and piece.output is None for piece in pieces[:-1])


def test_a_stream_and_its_async_twin_let_others_in_between(llm):
    async def read() -> list[Any]:
        return [piece async for piece in llm.astream(EASY, **SHORT)]

    [output] = llm.generate(EASY, **SHORT)
    pieces = []
    for piece in llm.stream(EASY, **SHORT):
        pieces.append(piece)
        if len(pieces) == 2:
            assert llm.generate(EASY, **SHORT) == [output]
    assert pieced(asyncio.run(read()), 3) == pieced(pieces, 3)


def test_half_characters_and_stop_texts_that_begin_are_not_shown(chatty):
    chat, stop = [{"role": "user", "content": "1+1?"}], ("he", "e w", "7")
    options: dict[str, Any] = {"n": 2, "max_tokens": 24, "stop": stop}
    [output] = chatty.generate(chat, **options)
    assert pieced(list(chatty.stream(chat, **options)), 2) == [x.text for x in output.completions]
    assert chatty.tokenizer.decode(output.prompt_token_ids, special=True).startswith("<|im_start|>")
    for text in ("the world", "naïve 😀", "a€", "€ he", "the w"):
        tokens = chatty.tokenizer.encode(text)
        settled, before = SettledText(chatty.tokenizer, stop), ""
        whole = text_of(tokens, chatty.tokenizer, stop)
        for count in range(len(tokens) + 1):
            shown = settled.of(tokens[:count], ended=False)
            assert shown.startswith(before)
            assert whole.startswith(shown)
            before = shown
        assert settled.of(tokens, ended=True) == whole


def test_a_chat_is_solved_in_its_template(chatty):
    given: dict[str, Any] = {"budget": 2, "max_tokens": 8}
    [found] = chatty.solve("1+1?", **given)
    chat = chatty.tokenizer.chat([{"role": "user", "content": "1+1?"}])
    assert found.ledger.prefill_tokens == len(chat) - 1
    form = PromptFormat(chat=True, chat_template_kwargs={"enable_thinking": False})
    with pytest.raises(UserError, match="template does not read 'enable_thinking'"):
        chatty.solve("1+1?", prompt=form, **given)


def test_conversations_are_solved_beside_texts(chatty):
    given: dict[str, Any] = {"budget": 2, "max_tokens": 8}
    turns = [("system", "Add."), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?")]
    talk = [{"role": role, "content": content} for role, content in turns]
    short = [{"role": "user", "content": "2+2?"}]
    [found] = chatty.solve(talk, **given)
    assert found.question == "2+2?"
    assert found.ledger.prefill_tokens == len(chatty.tokenizer.chat(talk)) - 1
    [alone] = chatty.solve(short, **given)
    several = chatty.solve(["2+2?", talk, short, talk], **given)
    assert several[1].alternatives == several[3].alternatives == found.alternatives
    assert len({x.id for x in several}) == 3  # one question, asked in three ways
    assert several[2].alternatives == alone.alternatives
    assert {x.id for x in chatty.solve_stream([talk, short], **given)} == {found.id, alone.id}
    [later] = asyncio.run(chatty.asolve(talk, **given))
    assert later.alternatives == found.alternatives


def test_rows_change_no_text():
    one = LLM("embedded:generator", rows=1)
    several, alone = one.generate([EASY, HARD], max_tokens=24), one.generate(HARD, max_tokens=24)
    assert len(several) == 2
    assert several[1:] == alone


def test_a_deadline_returns_what_is_written(llm, monkeypatch):
    outputs = llm.generate([EASY, HARD, EASY], deadline=1e-9, **SHORT)
    assert [len(x.completions) for x in outputs] == [3, 3, 3]
    assert {y.finish_reason for x in outputs for y in x.completions} == {"deadline"}
    assert sum(x.ledger.decode_tokens for x in outputs) == sum(
        len(y.token_ids) for x in outputs for y in x.completions
    )
    assert llm.generate(EASY, deadline=1e6, **SHORT) == llm.generate(EASY, **SHORT)
    late = llm.solve([EASY, HARD], deadline=1e-9, **TINY)
    assert [(x.question, x.cut, x.answer) for x in late] == [(EASY, True, None), (HARD, True, None)]
    assert [x.cut for x in llm.solve([EASY, HARD], deadline=1e6, **TINY)] == [False, False]


def test_solutions_come_as_they_are_found(llm):
    async def read() -> list[Any]:
        return [solution async for solution in llm.asolve_stream([EASY, HARD, EASY], **TINY)]

    expected = {x.question: x.alternatives for x in llm.solve([EASY, HARD], **TINY)}
    for found in (list(llm.solve_stream([EASY, HARD, EASY], **TINY)), asyncio.run(read())):
        assert sorted(x.question for x in found) == sorted([EASY, HARD, EASY])
        assert all(x.alternatives == expected[x.question] for x in found)


def test_a_reward_of_ones_own():
    seen: list[tuple[str, int]] = []

    def short(question: str, solutions: Sequence[str]) -> list[float]:
        if question == "1":
            raise ValueError("no\nconnection")
        seen.append((question, len(solutions)))
        return [1 / (1 + len(x)) for x in solutions]

    llm = LLM("embedded:generator", verifier=short, rows=4)
    [easy, hard] = llm.generate([EASY, HARD], n=2, max_tokens=24, stop=BOX)
    assert sorted(seen) == sorted([(EASY, 2), (HARD, 2)])
    for completion in (*easy.completions, *hard.completions):
        assert completion.step_scores[-1] == np.float32(1 / (1 + len(completion.text)))
    assert llm.generate(HARD, n=2, max_tokens=24, stop=BOX) == [hard]
    with pytest.raises(UserError, match="verifier short: ValueError: no connection") as caught:
        llm.generate("1", n=2, max_tokens=24, stop=BOX)
    assert "\n" not in str(caught.value)
    seen.clear()
    given: dict[str, Any] = {"budget": 2, "options": {"width": 2}, "task": "countdown"}
    given |= {"max_tokens": 40, "max_step_tokens": 16}
    [solution] = llm.solve(EASY, score_threshold=0.01, **given)
    assert (solution.strategy, solution.ledger.generations) == ("beam", 2)
    assert len(seen) > 1  # once a step
    with pytest.raises(UserError, match="best_of_n writes all candidates before it scores one"):
        llm.solve(EASY, strategy="best_of_n", score_threshold=0.5)


POLICY: dict[str, Any] = {
    "difficulty": "predicted",
    "samples": 2,
    "edges": [],
    "choice": {"bin_1": {"n_4": "wide"}},
    "strategies": {"wide": {"strategy": "best_of_n"}},
}


def test_a_policy_chooses(tmp_path):
    llm = LLM("embedded:generator", verifier="embedded:prm", rows=4)
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(POLICY))
    given: dict[str, Any] = {"policy": str(file), "task": "countdown", "max_tokens": 24}
    [solution] = llm.solve(EASY, budget=6, **given)
    assert (solution.strategy, solution.bin, solution.budget) == ("wide", 1, 4)
    assert solution.ledger.generations == 4  # the samples that told the difficulty vote
    with pytest.raises(UserError, match="budget 3 is below the policy's least, 4"):
        llm.solve(EASY, budget=3, **given)
    strategies = {"wide": {"strategy": "best_of_n", "generator": "embedded:large"}}
    file.write_text(json.dumps(POLICY | {"strategies": strategies}))
    with pytest.raises(UserError, match="best_of_n has a generator of its own, embedded:large"):
        llm.solve(EASY, budget=5, **given)


def test_a_policy_that_is_written_anew_is_followed(judged, tmp_path):
    file = tmp_path / "policy.json"
    model, _ = judged
    file.write_text(json.dumps(POLICY))
    given: dict[str, Any] = {"policy": str(file), "task": "countdown", "max_tokens": 24}
    [first] = model.solve(EASY, budget=4, **given)
    file.write_text(json.dumps(POLICY).replace("n_4", "n_3").replace("wide", "deep"))
    [second] = model.solve(EASY, budget=4, **given)
    assert [(x.strategy, x.budget) for x in (first, second)] == [("wide", 4), ("deep", 3)]


def test_a_reward_may_ask_the_model_that_it_scores_for(llm, judged):
    """As a judge does; what it draws is not scored, else it would ask without end."""
    model, judge = judged
    [expected] = llm.generate(HARD, **SHORT)
    [solved] = llm.solve(HARD, **TINY)

    async def several() -> list[str]:
        calls = [model.agenerate(HARD, **SHORT) for _ in range(2)]
        first, second = await asyncio.gather(*calls)
        assert first == second
        return [x.text for x in first[0].completions]

    asks: dict[str, Callable[[], Any]] = {
        "call": lambda: [x.text for x in model.generate(HARD, **SHORT)[0].completions],
        "async": lambda: asyncio.run(several()),
        "stream": lambda: pieced(list(model.stream(HARD, **SHORT)), 3),
        "solve": lambda: model.solve(HARD, **TINY)[0].alternatives,
    }
    for name, ask in asks.items():
        found: list[Any] = []

        def scores(solutions: Sequence[str], ask: Any = ask, found: Any = found) -> Any:
            for _ in solutions:  # as they are taken, which is later
                found.append(ask())
                yield 0.25

        judge.score = scores
        judge.seen.clear()
        with ThreadPoolExecutor(1) as threads:
            [output] = threads.submit(model.generate, EASY, **SHORT).result()
        assert len(judge.seen) == 1
        wanted = [x.text for x in expected.completions]
        assert found == [solved.alternatives if name == "solve" else wanted] * 3
        assert [x.step_scores[-1] for x in output.completions] == [0.25] * 3
    judge.score = lambda texts: [0.5] * len(texts)


@pytest.mark.parametrize("kind", ["agenerate", "asolve", "asolve_stream", "astream"])
def test_a_call_that_is_cancelled_is_cut_off(llm, monkeypatch, kind):
    run = Scheduler.run

    def watched(scheduler: Scheduler, requests: Any) -> Any:
        for done in run(scheduler, requests):
            written.append(done)
            begun.set()
            assert isinstance(scheduler.deadline, Deadline)
            assert scheduler.deadline.left is not None
            assert scheduler.deadline.left.wait(60)  # the call has been cancelled by then
            yield done

    async def cancelled() -> None:
        if kind == "agenerate":
            call: Any = llm.agenerate([EASY] * 30, **SHORT)
        elif kind == "asolve":
            call = llm.asolve([f"{i:02} 05 09=11:" for i in range(30)], **TINY)
        elif kind == "astream":
            call = anext(llm.astream(EASY, **SHORT))
        else:
            call = anext(llm.asolve_stream([f"{i:02} 05 09=11:" for i in range(30)], **TINY))
        task = asyncio.ensure_future(call)
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun, written = threading.Event(), list[Any]()
    monkeypatch.setattr(Scheduler, "run", watched)
    asyncio.run(cancelled())
    assert written
    assert len([x for x in written if isinstance(x, Done) and not x.cut]) < 6  # of 30


def test_a_verifier_scores_steps_and_steers_the_search():
    llm = LLM("embedded:generator", verifier="embedded:prm", rows=4)
    [output] = llm.generate(EASY, n=4, max_tokens=40)
    assert all(0 <= x <= 1 for y in output.completions for x in y.step_scores)
    assert any(len(x.step_scores) > 1 for x in output.completions)
    given: dict[str, Any] = {"options": {"width": 2}, "max_tokens": 40, "max_step_tokens": 16}
    [solution] = llm.solve(EASY, budget=4, task="countdown", **given)
    assert (solution.strategy, solution.ledger.generations) == ("beam", 4)
    assert solution.ledger.verifier_tokens > 0


def test_a_thought_is_told_apart_and_keeps_its_budget(llm):
    """The embedded task's pieces stand for marks: what counts are token ids."""
    marks = ThinkingFormat("", "=", closing=" =", continuation="+")
    [open_] = llm.tokenizer.encode("=")
    for least, most in [(0, 2), (5, 5)]:
        thinking = dataclasses.replace(marks, minimum=least, maximum=most)
        [output] = llm.generate(EASY, thinking=thinking, log_probs=True, **SHORT)
        for completion in output.completions:
            thought = completion.token_ids.index(open_)
            assert least <= thought <= most + 1
            assert completion.reasoning + completion.text == llm.tokenizer.decode(
                completion.token_ids
            )
            assert completion.reasoning.endswith("=")
            # Forced tokens count as the model itself rates them.
            assert sum(completion.log_probs or ()) == pytest.approx(completion.log_prob, rel=1e-3)
        assert output.ledger.decode_tokens == sum(len(x.token_ids) for x in output.completions)
    [solution] = llm.solve(EASY, thinking=dataclasses.replace(marks, maximum=2), **TINY)
    assert solution.reasoning.index("=") <= 3
    [plain] = llm.generate(EASY, **SHORT)
    assert all(completion.reasoning == "" for completion in plain.completions)
    with pytest.raises(UserError, match="thinking.maximum is 23: with 2 tokens of marks"):
        llm.generate(EASY, thinking=dataclasses.replace(marks, maximum=23), **SHORT)


def thinking_with(opens: str, **budgets: Any) -> ThinkingFormat:
    return ThinkingFormat(opens, "=", closing=" =", continuation="+", **budgets)


# Texts of one token, with that of `continuation`, and over the borders of tokens.
@pytest.mark.parametrize(
    ("opens", "stop"), [("", "+"), ("", ("1+", "5 ")), ("-", ("0", "8")), ("-", "= ")]
)
def test_stop_texts_end_an_answer_and_no_thought(judged, opens, stop):
    """Whether they are of one token or of several: texts are those without them, cut."""
    llm, judge = judged
    for budgets in [{}, {"minimum": 5}]:
        thinking = thinking_with(opens, **budgets)
        [whole] = llm.generate(EASY, thinking=thinking, **SHORT)
        judge.seen.clear()
        [found] = llm.generate(EASY, thinking=thinking, stop=stop, **SHORT)
        pieces = list(llm.stream(EASY, thinking=thinking, stop=stop, **SHORT))
        for one, other in zip(found.completions, whole.completions, strict=True):
            at = stopped_at(other.text, [stop] if isinstance(stop, str) else stop)
            assert (one.reasoning, one.text) == (other.reasoning, other.text[:at])
            assert one.finish_reason == ("stop" if at is not None else other.finish_reason)
        texts = [x.text for x in found.completions]
        assert pieced(pieces, 3) == texts
        assert judge.seen[0] == [x.reasoning + x.text for x in found.completions]


def test_a_closing_that_a_stop_text_ends_is_refused_where_it_is_forced(llm):
    closing = ThinkingFormat("", "=", closing="= \n", continuation="+")
    llm.generate(EASY, thinking=closing, stop="\n", **SHORT)
    forced = dataclasses.replace(closing, maximum=3)
    refused(
        lambda: llm.generate(EASY, thinking=forced, stop="\n", **SHORT),
        "thinking.closing: its token .*, behind the mark, ends an answer",
    )


def test_by_default_answers_are_as_long_as_the_model_has_room_for(llm: LLM):
    context = llm.generator.config.context
    [output] = llm.generate("03 08 12 25=61:", sampling=SamplingParams(0.0))
    assert len(output.completions[0].token_ids) <= min(256, context // 2)
    [solution] = llm.solve("03 08 12 25=61:", budget=4, task="countdown")
    assert solution.answer is not None
