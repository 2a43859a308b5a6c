"""Load on a server: many clients at once, some of whom leave, and some who send nonsense.

    python -m tests.bench.serve --clients=200 --seconds=180

starts `ttc serve` with the embedded models in a process of its own, and says how long answers took,
how many tokens a second were drawn, whether every request was answered, whether the same request
got the same answer, and how much memory the process took from quarter to quarter. Before that, they
are sent one at a time, and then questions at a budget of 4 answers, one at a time too, both
over HTTP and to `LLM.solve` in this process while the server has nothing to do. At the end the
server gets SIGTERM while the clients go on. What stands behind `--` are flags of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from ttc_jax import LLM, SamplingParams

KEY = "a-key-for-the-bench"
PROMPTS = ("03 08 12 25=61:", "03 05 09=11:", "04 07 13 25=88:")
FLAGS = (
    "--config.serve.requests=400",
    "--config.serve.prompt_tokens=32",
    "--config.serve.warm=plain,best_of_n-4",
    "--config.verifier.path=",
    "--config.selection.rule=majority",
    "--config.serve.strategy=best_of_n",
)


class Load:
    """What clients met: seconds of answers, tokens, statuses, and answers by request."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens = 0
        self.statuses: collections.Counter[str] = collections.Counter()
        self.answers: dict[str, set[str]] = {}

    def report(self, name: str, wall: float) -> None:
        p50, p95 = np.percentile(self.seconds, (50, 95)) if self.seconds else (0, 0)
        print(
            f"{name}: {len(self.seconds)} answers in {wall:.0f} s, p50 {p50:.2f} s, "
            f"p95 {p95:.2f} s, {self.tokens / wall:.0f} tokens a second; {dict(self.statuses)}"
        )


def request(rng: random.Random) -> dict[str, Any]:
    """One of some hundred requests, so that each comes again."""
    asked: dict[str, Any] = {
        "prompt": rng.choice(PROMPTS),
        "seed": rng.randrange(8),
        "temperature": rng.choice((0, 0.7, 1)),
        "max_tokens": rng.choice((8, 40, 128)),
    }
    return asked | (rng.choice(({}, {}, {"budget": 4})))


async def ask(client: httpx.AsyncClient, asked: dict[str, Any], load: Load) -> None:
    began = time.monotonic()
    response = await client.post("/v1/completions", json=asked)
    load.statuses[str(response.status_code)] += 1
    if response.status_code == 200:
        found = response.json()
        load.seconds.append(time.monotonic() - began)
        load.tokens += found["usage"]["completion_tokens"]
        known = load.answers.setdefault(json.dumps(asked), set())
        known.add(found["choices"][0]["text"])


async def misbehave(client: httpx.AsyncClient, rng: random.Random, load: Load) -> None:
    """Leaves early, or sends what cannot be answered."""
    kind = rng.choice(("leaves", "leaves a stream", "malformed", "oversize", "wrong key"))
    load.statuses[kind] += 1
    asked = request(rng)
    match kind:
        case "leaves":
            with contextlib.suppress(httpx.TimeoutException):
                await client.post("/v1/completions", json=asked, timeout=rng.random() * 0.2)
        case "leaves a stream":
            async with client.stream(
                "POST", "/v1/completions", json={**asked, "stream": True}
            ) as r:
                async for _ in r.aiter_raw():
                    break
        case "malformed":
            text = json.dumps(asked)[: rng.randrange(60)]
            assert (await client.post("/v1/completions", content=text)).status_code == 400
        case "oversize":
            long = {**asked, "prompt": PROMPTS[0] * rng.choice((9, 90_000))}
            assert (await client.post("/v1/completions", json=long)).status_code in (400, 413)
        case "wrong key":
            headers = {"Authorization": "Bearer nothing"}
            found = await client.post("/v1/completions", json=asked, headers=headers)
            assert found.status_code == 401


async def client_of(url: str, number: int, until: float, load: Load) -> None:
    rng = random.Random(number)
    async with connection(url) as client:
        while time.monotonic() < until:
            try:
                if rng.random() < 0.2:
                    await misbehave(client, rng, load)
                else:
                    await ask(client, request(rng), load)
            except httpx.TransportError as error:
                load.statuses[type(error).__name__] += 1


async def terminated(server: subprocess.Popen[bytes], url: str, clients: int) -> None:
    """Ends a server under load, and says what became of requests sent before and after.

    Each client sends one request after another until the server no longer listens. All that was
    sent a second before the signal has been accepted, and must be answered.
    """
    asked: list[tuple[float, str]] = []  # when a request was sent, and what became of it

    async def going_on(client: httpx.AsyncClient, number: int) -> None:
        rng = random.Random(number)
        while True:
            sent = time.monotonic()
            try:
                found = await client.post("/v1/completions", json=request(rng))
            except httpx.TransportError as error:
                asked.append((sent, type(error).__name__))
                if server.poll() is not None or isinstance(error, httpx.ConnectError):
                    return
            else:
                asked.append((sent, str(found.status_code)))
            await asyncio.sleep(0.05)

    made = [connection(url) for _ in range(clients)]  # before the first request: it takes time
    tasks = [asyncio.ensure_future(going_on(client, i)) for i, client in enumerate(made)]
    while len(asked) < 2 * clients:
        await asyncio.sleep(0.1)
    signalled = time.monotonic()
    server.send_signal(signal.SIGTERM)
    await asyncio.gather(*tasks)
    for client in made:
        await client.aclose()
    accepted = collections.Counter(end for sent, end in asked if sent < signalled - 1)
    later = collections.Counter(end for sent, end in asked if sent > signalled)
    print(f"SIGTERM, {clients} clients: sent before {dict(accepted)}, after {dict(later)}")
    print(f"exit code after SIGTERM: {server.wait(60)}")


def connection(url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {KEY}"}
    # Without TLS, whose settings take long to make.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=120, verify=False)


async def serial(url: str, seconds: float, load: Load) -> None:
    until, rng = time.monotonic() + seconds, random.Random(0)
    async with connection(url) as client:
        while time.monotonic() < until:
            await ask(client, request(rng), load)


def at_a_budget() -> Iterator[dict[str, Any]]:
    """What is asked of the server and of `LLM.solve` alike, without end."""
    for seed in itertools.count():
        for prompt in PROMPTS:
            yield {"prompt": prompt, "seed": seed, "budget": 4, "max_tokens": 128}


async def asked_of_server(url: str, seconds: float, load: Load) -> None:
    until = time.monotonic() + seconds
    async with connection(url) as client:
        for asked in at_a_budget():
            if time.monotonic() >= until:
                return
            await ask(client, asked, load)


def asked_of_library(seconds: float, load: Load) -> None:
    llm = LLM("embedded:generator")
    until = math.inf  # the first one compiles, and does not count
    for asked in at_a_budget():
        began = time.monotonic()
        if began >= until:
            return
        [found] = llm.solve(
            asked["prompt"],
            budget=asked["budget"],
            max_tokens=asked["max_tokens"],
            seed=asked["seed"],
            task="countdown",
            sampling=SamplingParams(0.7),
        )
        now = time.monotonic()
        if until == math.inf:
            until = now + seconds
        else:
            load.seconds.append(now - began)
            load.tokens += found.ledger.decode_tokens


async def loaded(url: str, pid: int, clients: int, seconds: float, load: Load) -> list[float]:
    """Returns the megabytes of the server at the start and after each quarter."""
    until, memory = time.monotonic() + seconds, [megabytes(pid)]
    tasks = [asyncio.ensure_future(client_of(url, i, until, load)) for i in range(clients)]
    for _ in range(4):
        await asyncio.sleep(seconds / 4)
        memory.append(megabytes(pid))
    await asyncio.gather(*tasks)
    return memory


def megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("flags", nargs="*", help="of the server")
    given = parser.parse_args()
    with tempfile.TemporaryFile("w+") as log:
        server = start([*FLAGS, *given.flags], log)
        try:
            url = started(server, log)
            alone, load, served, solved = Load(), Load(), Load(), Load()
            asyncio.run(serial(url, given.seconds / 6, alone))
            alone.report("one at a time", given.seconds / 6)
            asyncio.run(asked_of_server(url, given.seconds / 6, served))
            served.report("4 answers each, one at a time", given.seconds / 6)
            asked_of_library(given.seconds / 6, solved)
            solved.report("the same by LLM.solve", given.seconds / 6)
            began = time.monotonic()
            memory = asyncio.run(loaded(url, server.pid, given.clients, given.seconds, load))
            load.report(f"{given.clients} clients", time.monotonic() - began)
            print("memory, MB:", *(f"{x:.0f}" for x in memory))
            for asked, known in alone.answers.items():
                load.answers.setdefault(asked, set()).update(known)
            unlike = sum(len(known) > 1 for known in load.answers.values())
            print(f"{len(load.answers)} different requests, {unlike} with more than one answer")
            until = time.monotonic() + 30  # those who left are noticed
            while (left := in_flight(url)) and time.monotonic() < until:
                time.sleep(0.1)
            print(f"still in flight: {left}")
            asyncio.run(terminated(server, url, given.clients))
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait(60)


def in_flight(url: str) -> float:
    text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    counts = re.findall(r"^ttc_(?:requests_in_flight|questions_\w+) ([\d.]+)$", text, re.MULTILINE)
    return sum(map(float, counts))


def start(flags: Iterable[str], log: Any) -> subprocess.Popen[bytes]:
    """Returns a server that starts in a process of its own, and writes its log to a file."""
    command = [sys.executable, "-m", "ttc_jax.cli", "serve", "--config=serve", "--port=0", *flags]
    return subprocess.Popen(command, stderr=log, env={**os.environ, "TTC_API_KEYS": KEY})


def started(server: subprocess.Popen[bytes], log: Any) -> str:
    """Returns the server's address once it is ready."""
    while server.poll() is None:
        log.seek(0)
        text = log.read()
        if '"message": "ready"' in text:
            [found] = re.findall(r"(http://[\d.:]+)/v1", text)
            return found
        time.sleep(0.2)
    log.seek(0)
    raise SystemExit(log.read())


if __name__ == "__main__":
    main()
