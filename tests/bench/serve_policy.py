"""Budgets that differ by difficulty, beside fixed budgets, over HTTP.

    ttc run --config=countdown --workdir=runs/quickstart
    python -m tests.bench.serve_policy --policy=runs/quickstart/policy --questions=300

asks a server validation questions, which had no part in fitting, with each strategy at each budget
and then as what `ttc policy` wrote says: by its policy, or by its allocation (`--allocation`).
Prints accuracy, candidates and drawn tokens a request, with 95 % intervals over questions, and
beside each strategy's curve over fixed budgets: the points that are added at the same mean tokens,
and the share of tokens that is saved at the same accuracy. Where the curve does not get so far in
the budgets that were asked for, its last one counts, and how often that was so is said. All that
`ttc policy` had to draw for a question is among its costs.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.bench.serve import connection, start, started
from ttc_jax.policy.flops_match import at_budget
from ttc_jax.results.accuracy_table import generations_to_reach
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.tasks.task import Question

RESAMPLES = 2000


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


def interval(values: NDArray, digits: int = 1) -> str:
    """The first value, with the 95 % interval of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def means(values: NDArray) -> NDArray:
    """[..., 1 + RESAMPLES] means over questions [..., Q], all of them and then resamples.

    The resamples are the same for each way, so that differences are paired.
    """
    rng, count = np.random.default_rng(0), values.shape[-1]
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), drawn]) / count
    return values @ weights.T


def beside(found: NDArray, fixed: Sequence[NDArray]) -> str:
    """What a way brings beside the curve of fixed budgets.

    Args:
      found, fixed: `means` of [right, candidates, tokens].
    """
    added, saved, ends = [], [], 0
    curves = np.stack(fixed, -1)  # [3, resamples, budgets]
    for (right, _, tokens), curve in zip(found.T, curves.transpose(1, 0, 2), strict=True):
        costs = [round(x) for x in curve[2]]
        added.append(100 * (right - at_budget(curve[0], costs, tokens)))
        needed, censored = generations_to_reach(curve[0], costs, right)
        saved.append(100 * (1 - tokens / needed))
        ends += censored
    return (
        f"{interval(np.array(added))} points at the same tokens, {interval(np.array(saved), 0)} % "
        f"fewer tokens at the same accuracy (beyond the largest budget in {ends / len(saved):.0%})"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="")
    parser.add_argument("--allocation", default="")
    parser.add_argument("--strategies", default="best_of_n,beam")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--after", type=int, default=0, help="questions before the first one")
    parser.add_argument("--budgets", default="4,8,16,32,64")
    parser.add_argument("--adaptive", default="8,16,32", help="budgets of policy and allocation")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("flags", nargs="*", help="of the server")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    questions = Countdown(size=given.after + given.questions).questions("validation")[given.after :]
    flags = (
        f"--config.policy.path={given.policy}",
        f"--config.allocation.path={given.allocation}",
        f"--config.serve.budgets={given.budgets}",
        "--config.serve.programs=8",
        "--config.serve.prompt_tokens=32",
        *given.flags,
    )
    with tempfile.TemporaryFile("w+") as log:
        server = start(flags, log)
        try:
            url = started(server, log)

            def ask(way: str, budget: str) -> NDArray:
                name = f"embedded-generator@{way}-{budget}"
                found = means(asyncio.run(answers(url, name, questions, given.clients)))
                right, candidates, tokens = found
                print(
                    f"{way}-{budget}: right in {interval(100 * right)} %, candidates "
                    f"{interval(candidates)}, tokens {interval(tokens)}",
                    flush=True,
                )
                return found

            fixed = {
                way: [ask(way, budget) for budget in given.budgets.split(",")]
                for way in given.strategies.split(",")
            }
            for way in [name for name in ("policy", "allocation") if getattr(given, name)]:
                for budget in given.adaptive.split(","):
                    found = ask(way, budget)
                    for name, curve in fixed.items():
                        print(f"  beside {name}: {beside(found, curve)}", flush=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


if __name__ == "__main__":
    main()
