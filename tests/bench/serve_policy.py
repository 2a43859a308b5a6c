"""A policy whose budgets differ by difficulty, beside fixed budgets, over HTTP.

    ttc run --config=countdown --workdir=runs/quickstart
    python -m tests.bench.serve_policy --policy=runs/quickstart/policy --questions=300

asks a server validation questions, which had no part in fitting the policy, with each strategy at
each budget and as the policy says, and prints accuracy, candidates and drawn tokens a request, with
95 % intervals over questions, and what the policy adds to each fixed way: paired, in points and in
tokens. A question's samples for difficulty are among its costs.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile

import numpy as np
from numpy.typing import NDArray

from tests.bench.serve import connection, start, started
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.tasks.task import Question

WAYS = ("policy", "best_of_n", "beam")


async def answers(url: str, model: str, questions: list[Question], clients: int) -> NDArray:
    """Returns [3, questions]: whether each answer is right, its candidates, its drawn tokens."""
    task, room = Countdown(), asyncio.Semaphore(clients)
    async with connection(url) as client:

        async def answer(question: Question) -> tuple[float, float, float]:
            asked = {"model": model, "prompt": question.text, "seed": 1, "return": ["ledger"]}
            async with room:
                response = await client.post("/v1/completions", json=asked, timeout=600)
            response.raise_for_status()
            found = response.json()
            [verdict] = task.judge(question, [found["choices"][0]["text"]])
            spent = found["ttc"]["ledger"]["generations"], found["usage"]["completion_tokens"]
            return float(verdict.correct), *spent

        return np.array(await asyncio.gather(*map(answer, questions))).T


def interval(values: NDArray) -> str:
    """The mean with its 95 % bootstrap interval over questions."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", required=True)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--budgets", default="4,16,64")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("flags", nargs="*", help="of the server")
    given = parser.parse_args()
    questions = Countdown(size=given.questions).questions("validation")
    flags = (
        f"--config.policy.path={given.policy}",
        f"--config.serve.budgets={given.budgets}",
        "--config.serve.programs=8",
        "--config.serve.prompt_tokens=32",
        *given.flags,
    )
    with tempfile.TemporaryFile("w+") as log:
        server = start(flags, log)
        try:
            url = started(server, log)
            for budget in given.budgets.split(","):
                by_policy: NDArray | None = None
                for way in WAYS:
                    model = f"embedded-generator@{way}-{budget}"
                    right, candidates, tokens = asyncio.run(
                        answers(url, model, questions, given.clients)
                    )
                    line = f"{way}-{budget}: right in {interval(100 * right)} %, "
                    line += f"candidates {candidates.mean():.1f}, tokens {interval(tokens)}"
                    if by_policy is None:
                        by_policy = np.array([right, tokens])
                    else:
                        more, spent = by_policy - (right, tokens)
                        line += f"; the policy adds {interval(100 * more)} points, "
                        line += f"{interval(spent)} tokens"
                    print(line, flush=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


if __name__ == "__main__":
    main()
