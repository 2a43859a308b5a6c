"""Bodies of all kinds: what comes back is an answer, or an error that names what is wrong."""

import json
import os
from typing import Any

import httpx
import hypothesis
import hypothesis.strategies as st
import pytest

from tests.serve.running import EASY, HARD, Running

CASES = int(os.environ.get("TTC_FUZZ_CASES", "150"))
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["stop", "user", EASY, "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)
FIELDS = {
    "model": st.sampled_from(["", "embedded-generator", "embedded-generator@best_of_n-4", "x@y"]),
    "n": st.integers(-1, 6),
    "temperature": st.sampled_from([0, 0.5, 1.0, 1e-9, -1, 1e9]),
    "top_p": st.sampled_from([0, 0.1, 1, 1.1]),
    "top_k": st.sampled_from([-2, -1, 0, 3, 2**31]),
    "max_tokens": st.sampled_from([-1, 0, 1, 7, 40, 41, 10**12]),
    "stop": st.sampled_from(["", "\n", ["="], [""], ["a"] * 5, "x" * 65]),
    "seed": st.integers(-(2**64), 2**65),
    "stream": st.booleans(),
    "stream_options": st.sampled_from([{"include_usage": True}, {}, {"more": 1}]),
    "budget": st.integers(0, 5),
    "strategy": st.sampled_from(["best_of_n", "beam", ""]),
    "confidence": st.sampled_from([0, 0.5, 0.9, 1]),
    "deadline_s": st.sampled_from([-1, 0, 1e-9, 30, 1e300]),
    "return": st.lists(st.sampled_from(["alternatives", "trace", "ledger", "all"]), max_size=4),
}
CHAT = {
    "messages": st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "role": st.sampled_from(["user", "system", "assistant", "tool"]),
                "content": st.sampled_from([EASY, HARD, "", "é", EASY * 9, [], None])
                | st.just([{"type": "text", "text": EASY}]),
            },
        ),
        max_size=2,
    ),
    "logprobs": st.sampled_from([True, False, 1]),
    "top_logprobs": st.integers(-1, 1),
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_schema"}]),
    "tools": st.sampled_from([None, [], [{}]]),
}
PLAIN = {
    "prompt": st.sampled_from(
        [EASY, HARD, "", [], [EASY, HARD], [1, 2], [[1], [3, 4]], [-1], 10**9]
    ),
    "logprobs": st.integers(-1, 1),
    "best_of": st.integers(0, 4),
    "echo": st.booleans(),
}


def bodies(own: dict[str, Any], asked: str) -> st.SearchStrategy[bytes]:
    """Bodies that are nearly right, some of whose fields hold anything."""
    optional = FIELDS | {name: field for name, field in own.items() if name != asked}
    likely = st.fixed_dictionaries({asked: own[asked]}, optional=optional)
    spoilt = st.dictionaries(
        st.sampled_from([*FIELDS, *own]) | st.text(max_size=6), ANY, max_size=2
    )
    whole = st.builds(lambda x, y: x | y, likely, st.just({}) | spoilt) | ANY
    text = st.builds(lambda x: json.dumps(x).encode(), whole)
    return text | st.builds(lambda x, n: x[: n % (len(x) + 1)], text, st.integers(0, 99))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", bodies(CHAT, "messages")),
        ("/completions", bodies(PLAIN, "prompt")),
    ],
    ids=["chat", "plain"],
)
def test_whatever_is_sent_is_answered(running: Running, path: str, body: st.SearchStrategy[bytes]):
    with httpx.Client(base_url=running.url, timeout=120) as client:

        @hypothesis.settings(max_examples=CASES)
        @hypothesis.given(body)
        def send(data: bytes) -> None:
            response = client.post(path, content=data)
            if response.headers["content-type"].startswith("text/event-stream"):
                lines = [line for line in response.text.split("\n\n") if line]
                assert all(line.startswith("data: ") for line in lines)
                last = lines[-1].removeprefix("data: ")
                assert last == "[DONE]" or "error" in json.loads(last)
                return
            found = response.json()
            if response.status_code == 200:
                assert found["choices"]
                assert found["usage"]["completion_tokens"] > 0
            else:
                assert response.status_code in (400, 404, 504)
                assert found["error"]["message"]

        send()
    assert running.server.api.in_flight == 0
    assert running.server.backend.worker.in_slots == 0
    assert running.get("/health").status_code == 200
