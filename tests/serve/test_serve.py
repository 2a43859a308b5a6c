"""The official client against a server on this machine."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.serve.running import EASY, HARD, Running, lines
from ttc_jax import LLM

MODEL = "embedded-generator"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": EASY}],
    "max_tokens": 30,
    "seed": 5,
}


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[openai.OpenAI]:
    with running.client() as found:
        yield found


def test_a_conversation_is_answered(client: openai.OpenAI):
    found = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=3)
    [choice] = found.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert found.usage is not None
    assert found.usage.prompt_tokens == len(EASY)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content) == found.usage.completion_tokens <= 30
    assert "".join(one.token for one in choice.logprobs.content) == choice.message.content
    for one in choice.logprobs.content:
        others = [other.logprob for other in one.top_logprobs]
        assert len(others) == 3
        assert others == sorted(others, reverse=True)
        assert others[0] >= one.logprob - 1e-5
        if one.token in ("=", "1"):  # which no special token looks like
            told = {other.token: other.logprob for other in one.top_logprobs}
            assert told.get(one.token, one.logprob) == pytest.approx(one.logprob)
    about = found.model_extra["ttc"] if found.model_extra else {}
    assert about["seed"] == 5
    assert about["generations"] == 1
    assert about["generator_flops"] > 0
    assert not about["cut"]


def test_answers_are_those_of_the_library(client: openai.OpenAI):
    llm = LLM("embedded:generator", rows=8)
    [output] = llm.generate(HARD, max_tokens=40, seed=3)
    found = client.completions.create(model=MODEL, prompt=HARD, max_tokens=40, seed=3)
    assert found.choices[0].text == output.text
    assert found.usage is not None
    assert found.usage.completion_tokens == len(output.completions[0].token_ids)


def test_a_stream_has_the_same_text_and_tells_its_cost_at_the_end(client: openai.OpenAI):
    whole = client.chat.completions.create(**ASKED)
    chunks = [*client.chat.completions.create(**ASKED, stream=True)]
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] is not None
    assert chunks[-1].model_extra
    assert chunks[-1].model_extra["ttc"]["generations"] == 1
    asked = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    *_, last = client.chat.completions.create(**asked)
    assert last.choices == []
    assert last.usage == whole.usage


def test_several_prompts_and_choices_have_their_own_texts(client: openai.OpenAI):
    found = client.completions.create(
        model=MODEL, prompt=[HARD, EASY, HARD], n=4, max_tokens=30, seed=1, logprobs=2
    )
    texts = [choice.text for choice in found.choices]
    assert [choice.index for choice in found.choices] == [*range(12)]
    assert len({*texts[:4], *texts[8:]}) > 4  # the same prompt again draws others
    assert found.usage is not None
    drawn = sum(len(x.logprobs.tokens or ()) for x in found.choices if x.logprobs)
    assert found.usage.completion_tokens == drawn
    for choice in found.choices:
        assert choice.logprobs is not None
        places = choice.logprobs.top_logprobs or []
        told = choice.logprobs.tokens or []
        assert len(places) == len(told)
        assert all(token in place for token, place in zip(told, places, strict=True))
        assert max(map(len, places)) in (2, 3)  # the drawn one beside two


def test_a_text_stops_an_answer(client: openai.OpenAI):
    asked = {"model": MODEL, "prompt": EASY, "max_tokens": 40, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    for stop in ("\n", whole[4:7], whole[3]):
        [choice] = client.completions.create(**asked, stop=stop).choices
        assert choice.text == whole.partition(stop)[0]
        assert choice.finish_reason == "stop"
        stream = client.completions.create(**asked, stop=[stop], stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == choice.text


def test_a_budget_is_spent_and_the_candidates_vote(client: openai.OpenAI):
    found = client.chat.completions.create(
        **{**ASKED, "max_tokens": 40},
        extra_body={"budget": 4, "return": ["alternatives", "trace", "ledger"]},
    )
    [choice] = found.choices
    assert found.model_extra
    about = found.model_extra["ttc"]
    assert about["strategy"] == "best_of_n"
    assert about["budget"] == about["ledger"]["generations"] == 4
    assert sum(one["votes"] for one in about["alternatives"]) <= 4
    texts = [one["text"] for one in about["trace"]]
    assert len(texts) == 4
    assert choice.message.content in texts
    assert found.usage is not None
    assert found.usage.completion_tokens == about["ledger"]["decode_tokens"]
    named = client.chat.completions.create(
        **{**ASKED, "max_tokens": 40, "model": f"{MODEL}@best_of_n-4"}
    )
    assert named.choices[0].message.content == choice.message.content
    assert "trace" not in (named.model_extra or {})["ttc"]


def test_a_budget_of_tokens_is_kept(client: openai.OpenAI):
    found = client.chat.completions.create(**ASKED, extra_body={"budget_tokens": 150})
    assert found.usage is not None
    assert found.usage.completion_tokens <= 150
    about = found.model_extra["ttc"] if found.model_extra else {}
    assert about["budget"] == 4
    same = client.chat.completions.create(**ASKED, extra_body={"budget": 4})
    assert found.choices[0].message.content == same.choices[0].message.content


def test_requests_to_its_hub_work_as_they_are(running: Running):
    """Its documentation posts a chat completion with a budget, and nothing else of its own."""
    body = f"""{{
        "model": "{MODEL}",
        "messages": [
          {{"role": "user", "content": "{EASY}"}}
        ],
        "budget": 4
    }}"""
    response = running.post(
        "/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200
    found = response.json()
    assert found["choices"][0]["message"]["content"]
    assert found["ttc"]["budget"] == 4


def test_answers_are_the_same_alone_and_under_load(client: openai.OpenAI):
    def ask(number: int) -> tuple[str | None, Any]:
        asked: dict[str, Any] = {
            **ASKED,
            "seed": number,
            "temperature": (0, 0.7, 1, 1.3)[number % 4],
            "top_p": (1, 0.8)[number % 2],
            "max_tokens": (40, 11, 25)[number % 3],
            "logprobs": True,
            "messages": [{"role": "user", "content": (EASY, HARD)[number // 2 % 2]}],
        }
        if number % 5 == 0:
            asked |= {"extra_body": {"budget": 4}}
        found = client.chat.completions.create(**asked)
        return found.choices[0].message.content, found.choices[0].logprobs

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        assert [*threads.map(ask, [*range(12), *range(12)])] == alone * 2


def test_the_client_may_be_asynchronous(running: Running):
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=running.url, api_key="any") as client:
            several = [client.chat.completions.create(**ASKED) for _ in range(3)]
            texts = [x.choices[0].message.content or "" for x in await asyncio.gather(*several)]
            stream = await client.chat.completions.create(**ASKED, stream=True)
            return [*texts, "".join([x.choices[0].delta.content or "" async for x in stream])]

    assert len({*asyncio.run(ask())}) == 1


def test_models_are_listed(client: openai.OpenAI):
    names = [model.id for model in client.models.list()]
    assert names[0] == MODEL
    assert f"{MODEL}@best_of_n-4" in names
    assert client.models.retrieve(names[1]).id == names[1]


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_it_says_that_it_works(running: Running, path: str):
    assert running.get(path).status_code == 200


def test_metrics_count(running: Running, client: openai.OpenAI):
    client.chat.completions.create(**ASKED)
    text = running.get("/metrics").text
    assert 'ttc_requests_total{path="/v1/chat/completions",status="200"}' in text
    assert 'ttc_tokens_total{kind="completion"}' in text
    assert "ttc_requests_in_flight 0.0" in text


def test_neither_prompts_nor_answers_are_logged(running: Running, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    asked = {"messages": [{"role": "user", "content": EASY}], "budget": 4}
    found = running.post("/chat/completions", json=asked).json()
    running.post("/completions", json={"prompt": "unknown letters"})
    said = "\n".join([caplog.text, *(str(vars(record)) for record in caplog.records)])
    for secret in (EASY, found["choices"][0]["message"]["content"][:9], "unknown letters"):
        assert secret not in said
    [line] = [line for line in lines(caplog) if line["status"] == 200]
    assert line["path"] == "/v1/chat/completions"
    assert line["completion_tokens"] == found["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": 41}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"seed": 0.5}, "seed"),
        ({"budget": 5}, "budget"),
        ({"budget_tokens": 119}, "budget_tokens"),  # four answers of 30 tokens take 120
        ({"budget": 4, "budget_tokens": 120}, "budget"),
        ({"model": f"{MODEL}@best_of_n-4", "budget_tokens": 120}, "budget_tokens"),
        ({"strategy": "beam_search"}, "strategy"),
        ({"budget": 4, "n": 2}, "n"),
        ({"model": "gpt-4"}, "model"),
        ({"model": f"{MODEL}@best_of_n"}, "model"),
        ({"model": f"{MODEL}@best_of_n-4", "budget": 4}, "budget"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "no arithmetic"}]}, "messages"),
        ({"messages": [{"role": "user", "content": HARD * 4}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"top_logprobs": 3}, "top_logprobs"),  # without logprobs
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"return": ["everything"]}, "return[0]"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"bugdet": 4}, "bugdet"),
        # optillm names what is to be done like this, which is other strategies than ours.
        ({"optillm_approach": "bon"}, "optillm_approach"),
        ({"model": f"moa-{MODEL}"}, "model"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_field(running: Running, changes: dict, param: str):
    response = running.post("/chat/completions", json={**ASKED, **changes})
    assert response.status_code == (404 if param == "model" else 400)
    error = response.json()["error"]
    assert error["param"].startswith(param)
    assert error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"a"', b"\xff", b'{"messages": NaN}', b"[" * 5000, b'"\\ud800"']
)
def test_a_body_that_is_none_is_refused(running: Running, body: bytes):
    response = running.post("/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]
