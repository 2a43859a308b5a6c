"""The front door: text in, text out, as an application developer would call it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest

from ttc_jax import LLM, SamplingParams, ThinkingFormat
from ttc_jax.errors import UserError
from ttc_jax.search.search import Search
from ttc_jax.sharding.mesh import make_mesh

EASY, HARD = "c-01 b+02 a=81:", "d*b*3 c-a*7 b=a+5 a=13:"
SHORT: dict[str, Any] = {"n": 3, "max_tokens": 24}  # one shape, so that one program serves all


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM("embedded:generator", rows=6)


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
    several = [EASY, HARD, "b*07 a=13:", HARD, EASY]
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


@pytest.mark.parametrize("stop", ["=8", ["never", "="]])
def test_a_stop_text_ends_a_completion_and_is_not_part_of_it(llm, stop):
    [output] = llm.generate(EASY, stop=stop, **SHORT)
    [whole] = llm.generate(EASY, **SHORT)
    text = "=8" if stop == "=8" else "="
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
    assert min(likeliest.completions[0].log_probs) > -2  # each is the likeliest of 40 tokens


def test_greedy_completions_are_the_likeliest(llm):
    [output] = llm.generate(EASY, sampling=SamplingParams(temperature=0), **SHORT)
    assert len(set(output.completions)) == 1
    [drawn] = llm.generate(EASY, **SHORT)
    assert output.completions[0].log_prob >= max(x.log_prob for x in drawn.completions) - 1e-4


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "prompts is empty"),
        ("", "a prompt is empty"),
        ([[]], "a prompt is empty"),
        (["a", 3], "a list holds int and str"),
        ([{"role": "user"}], "needs 'role' and 'content'"),
        ([{"role": "user", "content": 3}], "content is 3; it must be text"),
        ([{"role": "user", "content": "a"}], "no chat template"),
        ([99999], "a prompt"),
        ("é", "é"),
        ("a" * 5000, "context"),
    ],
)
def test_what_is_no_prompt_is_one_line(llm, prompts, said):
    with pytest.raises(UserError, match=said) as caught:
        llm.generate(prompts, **SHORT)
    assert "\n" not in str(caught.value)


def test_arguments_that_cannot_be(llm):
    with pytest.raises(UserError, match="stop holds an empty text"):
        llm.generate(EASY, stop="", **SHORT)
    with pytest.raises(UserError, match="n is 0"):
        llm.generate(EASY, n=0)
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        llm.generate(EASY, max_tokens=0)
    for budget in (0, -1, "16"):
        with pytest.raises(UserError, match=f"budget is {budget!r}; it must be a whole number"):
            llm.solve(EASY, budget=budget, task="arithmetic")
    with pytest.raises(UserError, match="budget 5: beam cannot spend it exactly; it can spend 8"):
        llm.solve(EASY, budget=5, strategy="beam", options={"width": 4}, task="arithmetic")
    with pytest.raises(UserError, match="strategy: 'beem' is unknown"):
        llm.solve(EASY, strategy="beem", task="arithmetic")
    with pytest.raises(UserError, match="rule: 'most' is unknown; choose"):
        llm.solve(EASY, rule="most", task="arithmetic")
    with pytest.raises(UserError, match="rule is best_of_n: .* there is no verifier"):
        llm.solve(EASY, rule="best_of_n", task="arithmetic")
    with pytest.raises(UserError, match="unknown task"):
        llm.solve(EASY, task="arithmetics")


def test_a_second_call_of_a_kind_compiles_nothing(llm, monkeypatch):
    llm.generate(EASY, **SHORT)
    made: list[object] = []
    monkeypatch.setattr(Search, "__init__", lambda *_, **__: made.append(_))
    llm.generate([HARD, EASY], seed=3, **SHORT)
    assert not made


def test_two_calls_at_once_give_what_they_give_alone(llm):
    async def both() -> list[Any]:
        calls = [llm.agenerate(prompt, **SHORT) for prompt in (EASY, HARD)]
        return list(await asyncio.gather(*calls))

    assert asyncio.run(both()) == [llm.generate(EASY, **SHORT), llm.generate(HARD, **SHORT)]


def test_a_budget_is_spent_on_a_question_and_answers_vote(llm):
    given = {"budget": 3, "task": "arithmetic", "max_tokens": 24}
    [solution] = llm.solve(EASY, **given)
    assert (solution.strategy, solution.ledger.generations) == ("best_of_n", 3)
    assert sum(x.votes for x in solution.alternatives) <= 3
    assert solution.answer == (solution.alternatives[0].answer if solution.alternatives else None)
    assert [x.question for x in llm.solve([HARD, EASY], **given)] == [HARD, EASY]


def test_devices_change_no_answer(llm):
    spread = LLM("embedded:generator", rows=6, mesh=make_mesh(2, 1, jax.devices()[:2]))
    given: dict[str, Any] = {"budget": 3, "task": "arithmetic", "max_tokens": 24}
    found, expected = (one.solve([EASY, HARD], **given) for one in (spread, llm))
    for mine, other in zip(found, expected, strict=True):
        assert (mine.answer, mine.alternatives) == (other.answer, other.alternatives)


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
    given: dict[str, Any] = {"policy": str(file), "task": "arithmetic", "max_tokens": 24}
    [solution] = llm.solve(EASY, budget=6, **given)
    assert (solution.strategy, solution.bin, solution.budget) == ("wide", 1, 4)
    assert solution.ledger.generations == 4  # the samples that told the difficulty vote
    with pytest.raises(UserError, match="budget 3 is below the policy's least, 4"):
        llm.solve(EASY, budget=3, **given)
    strategies = {"wide": {"strategy": "best_of_n", "generator": "embedded:large"}}
    file.write_text(json.dumps(POLICY | {"strategies": strategies}))
    with pytest.raises(UserError, match="best_of_n has a generator of its own, embedded:large"):
        llm.solve(EASY, budget=5, **given)


def test_a_verifier_scores_steps_and_steers_the_search():
    llm = LLM("embedded:generator", verifier="embedded:prm", rows=4)
    [output] = llm.generate(EASY, n=4, max_tokens=40)
    assert all(0 <= x <= 1 for y in output.completions for x in y.step_scores)
    assert any(len(x.step_scores) > 1 for x in output.completions)
    given: dict[str, Any] = {"options": {"width": 2}, "max_tokens": 40, "max_step_tokens": 16}
    [solution] = llm.solve(EASY, budget=4, task="arithmetic", **given)
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
    [plain] = llm.generate(EASY, **SHORT)
    assert all(completion.reasoning == "" for completion in plain.completions)
    with pytest.raises(UserError, match="thinking.maximum is 23: with 2 tokens of marks"):
        llm.generate(EASY, thinking=dataclasses.replace(marks, maximum=23), **SHORT)
