"""Language models as judges: verdicts against a plain forward pass, alone and in any company."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array

from tests.sampling.oracle import Oracle, tiny_generator
from tests.search.test_bridge import TEXTS, TOKENIZER
from tests.search.toy import SHALLOW, make_plan, make_search
from ttc_jax import hashing
from ttc_jax.compute.flops import generator_flops
from ttc_jax.errors import UserError
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.verifiers.adapters import adapter_of
from ttc_jax.verifiers.generative import GenerativeVerifier
from ttc_jax.verifiers.judge import JudgeModel, LanguageJudge
from ttc_jax.verifiers.judge_format import JudgeFormat, find_judge, known
from ttc_jax.verifiers.load import load_verifier, outline_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel

DIRECT = JudgeFormat("{question}#{solution}|", chat=False, good="a", bad="b")
THINKS = dataclasses.replace(DIRECT, thought=5, stop=".", verdict="|\n", samples=2, temperature=1.0)
WRITES = JudgeFormat("{question}#{answers}|", chat=False, verdict="b", tokens=4)
# Of two buckets of lengths, so that programs of both are run.
SOLUTIONS = ("d", "ef a", "ghijk|" * 12, "", "c b" * 30)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny_generator(SHALLOW)


def judge_of(model: Transformer, form: JudgeFormat, batch: int = 3) -> LanguageJudge:
    return JudgeModel("judge:generator", form).beside(model, TOKENIZER, batch=batch)


@nnx.jit
def forward(model: Transformer, tokens: Array, last: Array) -> Array:
    return model.logits(model(tokens)[0, last])


def logits_behind(model: Transformer, tokens: Sequence[int]) -> np.ndarray:
    """What one forward pass of this text alone gives, padded so that it is compiled once."""
    padded = np.zeros((1, SHALLOW.context), np.int32)
    padded[0, : len(tokens)] = tokens
    found = forward(model, jnp.asarray(padded), jnp.asarray(len(tokens) - 1))
    return np.asarray(found, np.float64)


def probability(model: Transformer, tokens: Sequence[int]) -> float:
    """The softmax over the two tokens of the verdict."""
    logits = logits_behind(model, tokens)
    good, bad = np.exp([logits[TOKENIZER.encode(x)[0]] for x in "ab"])
    return good / (good + bad)


def test_a_score_is_the_softmax_of_two_tokens_and_depends_on_its_text_alone(model):
    judge = judge_of(model, DIRECT)
    texts = [DIRECT.asked("ab c", solution) for solution in SOLUTIONS]
    together = judge.verdicts(texts)
    for text, verdict in zip(texts, together, strict=True):
        tokens = TOKENIZER.encode(text)
        assert verdict.score == pytest.approx(probability(model, tokens), abs=1e-5)
        flops = generator_flops(SHALLOW, 0, len(tokens), 1)
        assert verdict.cost.verifier_tokens == len(tokens)
        assert verdict.cost.verifier_flops == verdict.cost.uncached_verifier_flops == flops
        assert judge.verdicts([text]) == [verdict]  # to the bit
    assert judge.verdicts(texts[::-1]) == together[::-1]
    assert len({verdict.score for verdict in together}) == len(texts)
    assert judge.verdicts([]) == []
    assert judge.verdicts(["a" * 257, texts[0]]) == [type(together[0])(), together[0]]


def test_thoughts_are_drawn_and_their_scores_averaged(model):
    judge = judge_of(model, THINKS)
    texts = [THINKS.asked("ab c", solution) for solution in SOLUTIONS[:3]]
    found = judge.verdicts(texts)
    prompts = [TOKENIZER.encode(text) for text in texts]
    ends = {*TOKENIZER.eos_ids, *np.flatnonzero(TOKENIZER.containing(".")).tolist()}
    thoughts = Oracle(model, 6, 96).sample(
        prompts,
        [hashing.number_of(" ".join(map(str, prompt))) for prompt in prompts],
        candidates=2,
        max_new_tokens=5,
        end_tokens=sorted(ends),
        sampling=SamplingParams(1.0),
        seed=0,
    )
    assert any(thought.finished for own in thoughts for thought in own)
    for prompt, own, verdict in zip(prompts, thoughts, found, strict=True):
        read = [
            [*prompt, *thought.tokens[: len(thought.tokens) - thought.finished], *behind]
            for thought in own
            for behind in [TOKENIZER.encode("|\n")]
        ]
        assert verdict.score == pytest.approx(
            np.mean([probability(model, tokens) for tokens in read]), abs=1e-5
        )
        drawn = [len(thought.tokens) for thought in own]
        shared = len(prompt) - 1  # is read once; the verdicts read everything again
        assert verdict.cost.verifier_tokens == shared + sum(drawn) + sum(map(len, read))
        assert verdict.cost.verifier_flops == (
            generator_flops(SHALLOW, 0, shared, 0)
            + sum(generator_flops(SHALLOW, shared, n, n) for n in drawn)
            + sum(generator_flops(SHALLOW, 0, len(tokens), 1) for tokens in read)
        )
    assert [judge.verdicts([text])[0] for text in texts] == found


def test_what_is_written_is_the_likeliest_text(model):
    judge = judge_of(model, WRITES)
    texts = [WRITES.asked("ab c", answers=answers) for answers in SOLUTIONS[:3]]
    found = judge.verdicts(texts)
    for text, verdict in zip(texts, found, strict=True):
        tokens = TOKENIZER.encode(text + "b")
        first = len(tokens)
        while len(tokens) < first + 4 and tokens[-1] not in TOKENIZER.eos_ids:
            tokens.append(int(logits_behind(model, tokens).argmax()))
        assert verdict.text == TOKENIZER.decode(tokens[first:])
        assert verdict.finished == (tokens[-1] in TOKENIZER.eos_ids)
        assert verdict.cost.verifier_tokens == len(tokens) - 1
        assert verdict.score is None
        assert judge.verdicts([text]) == [verdict]


def test_a_search_is_judged_by_its_own_generator(model):
    """Its weights are there once, scores are those of the texts, and the ledger has the tokens."""
    verifier = load_verifier("judge:generator")
    assert isinstance(verifier, GenerativeVerifier)
    assert verifier.source.model is None
    verifier = GenerativeVerifier(JudgeModel("judge:generator", DIRECT))
    plan = make_plan("best_of_n", candidates=2, max_new_tokens=8)
    search = make_search(
        model,
        verifier,
        plan,
        end_tokens=TOKENIZER.eos_ids,
        delimiter=Delimiter.of(TOKENIZER, "\n"),
        adapter=adapter_of(verifier, TOKENIZER, "\n", generator=model, batch=2),
        batch=2,
    )
    assert search.adapter is not None

    def results(order: Sequence[int]) -> dict[int, Any]:
        prompts = [TOKENIZER.encode(TEXTS[i]) for i in order]
        shown = [search.adapter.prompt(TEXTS[i]) for i in order]  # pyright: ignore[reportOptionalMemberAccess]
        return {order[i]: found for i, found in search.run(prompts, order, shown)}

    found = results(range(3))
    for i, one in found.items():
        read = 0
        for n, length in enumerate(one.lengths.tolist()):
            text = TOKENIZER.decode(one.tokens[n, :length].tolist())
            tokens = TOKENIZER.encode(DIRECT.asked(TEXTS[i], text))
            assert one.scores_of(n)[-1] == pytest.approx(probability(model, tokens), abs=1e-5)
            read += len(tokens)
        assert one.ledger.verifier_tokens == read
        assert one.ledger.verifier_flops > 0
        assert one.ledger.generations == 2
    [alone] = results([1]).values()
    assert alone.ledger == found[1].ledger
    np.testing.assert_array_equal(alone.step_scores, found[1].step_scores)


def test_a_judge_with_a_model_and_a_file_of_its_own(tmp_path: Path):
    file = tmp_path / "mine.json"
    fields = {"prompt": "{question}\n{solution}=", "chat": False, "good": "1", "bad": "0"}
    file.write_text(json.dumps(fields))
    verifier = load_verifier(f"{file}:embedded:generator")
    assert isinstance(verifier, GenerativeVerifier)
    [high, low], cost = verifier.read_texts("03 05=08:", ["03+05=08", ""])
    assert 0 <= low <= 1
    assert 0 <= high <= 1
    assert cost.verifier_tokens == len("03 05=08:\n03+05=08=") + len("03 05=08:\n=")
    assert isinstance(outline_verifier(f"{file}:embedded:generator"), GenerativeVerifier)
    assert isinstance(load_verifier("embedded:prm"), ProcessRewardModel)
    with pytest.raises(UserError, match="the generator is to judge, and none is named"):
        GenerativeVerifier(JudgeModel("judge:generator", DIRECT)).score_texts("a", ["b"])


def test_what_stands_in_a_slot_is_not_searched_for_slots():
    assert DIRECT.asked("{solution}", "{question}") == "{solution}#{question}|"
    assert WRITES.listed(2, "{number}") == "Answer 2:\n{number}\n\n"


def test_the_formats_that_ship():
    assert {name: form.selects for name, form in known().items()} == {
        "judge": False,
        "judge-thought": False,
        "pick": True,
        "pick-thought": True,
        "merge": True,
    }
    for path in ("judge:", "judge:generator", "judge:Qwen/Qwen2.5-0.5B"):
        assert find_judge(path) == (known()["judge"], path.removeprefix("judge:"))
    for path in ("", "confidence:log_prob", "skywork:/models/copy", "judge"):
        assert find_judge(path) == (None, path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "{solution}"}, r"prompt is '\{solution\}'; it must hold \{question\}"),
        ({"prompt": "{question}"}, r"must hold either \{solution\}, .* or \{answers\}"),
        ({"prompt": "{question}{solution}{answers}"}, "must hold either"),
        ({}, "prompt is missing"),
        ({"answer": "{number}"}, r"answer is '\{number\}'; it must hold \{solution\}"),
        ({"prompt": "{question}{answers}", "answer": "{solution}"}, r"must hold \{number\}"),
        ({"good": "No"}, "good and bad are both 'No'"),
        ({"samples": 3}, "samples is 3: they would all be alike"),
        ({"stop": "x"}, "stop ends a thought, and there is none"),
        ({"chat": False, "system": "x"}, "system is a turn of a chat"),
        ({"merges": True}, "merges: the prompt must hold"),
        ({"thought": -1}, "thought: "),
        ({"temperature": "hot"}, "temperature: "),
        ({"promt": "x"}, "promt: "),
    ],
)
def test_a_wrong_format_is_one_line_that_names_the_file(fields, said, tmp_path: Path):
    file = tmp_path / "wrong.json"
    basis = {} if said == "prompt is missing" else {"prompt": "{question}{solution}"}
    file.write_text(json.dumps(basis | fields))
    with pytest.raises(UserError, match=said) as caught:
        load_verifier(f"{file}:generator")
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_judge_that_cannot_do_its_part_is_refused(model):
    with pytest.raises(UserError, match="chooses from several answers; name it by search.judge"):
        load_verifier("pick:generator")
    for changes, said in (
        ({"good": "ab"}, "good is 'ab': must be one token of the judge, and is 2"),
        ({"chat": True}, "no chat template"),
        ({"thought": 2, "stop": "Z"}, "stop is 'Z', which is in no token"),
        ({"prompt": "Z{question}{solution}"}, "does not know the character 'Z'"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            judge_of(model, dataclasses.replace(DIRECT, **changes))
        assert str(caught.value).startswith("judge:generator: ")
