"""Budgets that differ by difficulty, beside fixed budgets, over HTTP.

    ttc run --config=countdown --workdir=runs/quickstart
    python -m tests.bench.serve_policy --policy=runs/quickstart/policy --questions=300

asks a server validation questions, which had no part in fitting, as what `ttc policy` wrote says:
by its policy, or by its allocation (`--allocation`). What that is set beside is best-of-N, asked at
the largest budget alone: some candidates of an answer are that of a smaller budget. With the same
candidates, in the same random orders, the allocation is replayed too, so that the two differ by
what it decides and not by what was drawn. `--strategies=beam` are asked at each budget besides.

Prints accuracy, candidates and drawn tokens a request, with 95 % intervals over questions, and
beside the curve over fixed budgets: the points that are added at the same mean tokens, and the
share of tokens that is saved at the same accuracy. Where the curve does not get so far in the
budgets that were asked for, its last one counts, and how often that was so is said. All that had to
be drawn for a question is among its costs.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.serve import connection, start, started
from ttc_jax.compute.ledger import Ledger
from ttc_jax.policy.allocation import Allocation
from ttc_jax.policy.allocation_file import read_allocation
from ttc_jax.policy.flops_match import at_budget
from ttc_jax.policy.walks import walks
from ttc_jax.results.accuracy_table import generations_to_reach
from ttc_jax.results.store import Candidate, Record
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.tasks.task import Question

RESAMPLES = 2000
ORDERS = 32  # of the candidates of a question, each of which might have come first


async def answers(
    url: str, model: str, questions: Sequence[Question], clients: int
) -> list[dict[str, Any]]:
    """Returns the answers to the questions, with all candidates."""
    room = asyncio.Semaphore(clients)
    async with connection(url) as client:

        async def answer(question: Question) -> dict[str, Any]:
            asked = {"model": model, "prompt": question.text, "seed": 1}
            async with room:
                response = await client.post(
                    "/v1/completions", json={**asked, "return": ["ledger", "trace"]}, timeout=3600
                )
            response.raise_for_status()
            return response.json()

        return list(await asyncio.gather(*map(answer, questions)))


def counts(questions: Sequence[Question], found: Sequence[dict[str, Any]]) -> NDArray:
    """Returns [3, questions]: whether each answer is right, its candidates, its drawn tokens."""
    task, rows = Countdown(), []
    for question, body in zip(questions, found, strict=True):
        [verdict] = task.judge(question, [body["choices"][0]["text"]])
        spent = body["ttc"]["ledger"]["generations"], body["usage"]["completion_tokens"]
        rows.append((float(verdict.correct), *spent))
    return np.array(rows).T


class Replay:
    """What smaller budgets would have drawn and answered, from the candidates of the largest one.

    Attributes:
      walks: the candidates in `ORDERS` random orders, questions in the order of their ids.
      grid: [n] budgets.
      right: [questions, ORDERS, n] chance that the first so many candidates elect a right answer.
      tokens: [questions, 1, n] that so many take on average.

    Args:
      records: best-of-N's, one a question, in the order of their ids.
      tokens: of all candidates of each.
    """

    def __init__(self, records: Sequence[Record], tokens: Sequence[int]):
        self.walks = walks(records, orders=ORDERS)
        self.grid = np.array(self.walks.grid)
        self.right = self.walks.right[:, 0]
        each = np.array(tokens) / self.grid[-1]
        self.tokens = each[:, None, None] * self.grid

    @classmethod
    def of(cls, questions: Sequence[Question], found: Sequence[dict[str, Any]]) -> Replay:
        """Returns that of a server's answers, questions in the order of their ids."""
        records = list[Record]()
        for question, body in zip(questions, found, strict=True):
            trace = body["ttc"]["trace"]
            verdicts = Countdown().judge(question, [one["text"] for one in trace])
            candidates = tuple(
                Candidate(
                    (),
                    one["text"],
                    one["finished"],
                    one["log_prob"],
                    tuple(one["step_scores"]),
                    verdict.answer,
                    verdict.correct,
                )
                for one, verdict in zip(trace, verdicts, strict=True)
            )
            records.append(Record(question.id, "best_of_n", len(trace), 0, candidates, Ledger()))
        return cls(records, [body["usage"]["completion_tokens"] for body in found])

    def fixed(self, budget: int) -> NDArray:
        """Returns `counts` at a budget."""
        return self._where(np.broadcast_to(self.grid == budget, self.right.shape))

    def allocated(self, allocation: Allocation) -> NDArray:
        """Returns `counts` where an allocation says when to stop."""
        seen, stops = self.walks.since(allocation.grid[0]), np.zeros(self.right.shape)
        stops[..., -len(seen.grid) :] = allocation.stops(seen.states[:, 0])
        return self._where(stops)

    def _where(self, stops: NDArray) -> NDArray:
        """Returns the same for chances to stop at each budget, [questions, ORDERS, n]."""
        values = self.right, self.grid, self.tokens
        return np.stack([(stops * x).sum(-1).mean(-1) for x in values])


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
    parser.add_argument("--strategies", default="", help="beside best_of_n")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--after", type=int, default=0, help="questions before the first one")
    parser.add_argument("--budgets", default="4,8,16,32,64")
    parser.add_argument("--adaptive", default="16,32", help="those of policy and allocation")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("flags", nargs="*", help="of the server")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    questions = Countdown(size=given.after + given.questions).questions("validation")[given.after :]
    questions.sort(key=lambda question: question.id)  # as a replay has them
    flags = (
        f"--config.policy.path={given.policy}",
        f"--config.allocation.path={given.allocation}",
        f"--config.serve.budgets={given.budgets}",
        "--config.serve.programs=8",
        "--config.serve.prompt_tokens=32",
        "--config.serve.seconds=86400",  # no deadline cuts an answer
        *given.flags,
    )
    budgets = [int(budget) for budget in given.budgets.split(",")]
    fixed: dict[str, list[NDArray]] = {}
    with tempfile.TemporaryFile("w+") as log:
        server = start(flags, log)
        try:
            url = started(server, log)

            def ask(way: str, budget: int) -> list[dict[str, Any]]:
                name = f"embedded-generator@{way}-{budget}"
                return asyncio.run(answers(url, name, questions, given.clients))

            def tell(name: str, found: NDArray, *, adaptive: bool = True) -> NDArray:
                right, candidates, tokens = spread = means(found)
                print(
                    f"{name}: right in {interval(100 * right)} %, candidates "
                    f"{interval(candidates)}, tokens {interval(tokens)}",
                    flush=True,
                )
                for way, curve in fixed.items() if adaptive else ():
                    print(f"  beside {way}: {beside(spread, curve)}", flush=True)
                return spread

            replay = Replay.of(questions, ask("best_of_n", budgets[-1]))
            curves = {"best_of_n": [replay.fixed(budget) for budget in budgets]}
            for way in filter(None, given.strategies.split(",")):
                curves[way] = [counts(questions, ask(way, budget)) for budget in budgets]
            for way, curve in curves.items():
                named = zip(budgets, curve, strict=True)
                fixed[way] = [tell(f"{way}-{n}", found, adaptive=False) for n, found in named]
            if given.allocation:
                file = read_allocation(given.allocation)
                for budget in file.budgets:
                    tell(f"allocation-{budget}, replayed", replay.allocated(file.at(budget)))
            for way in [name for name in ("policy", "allocation") if getattr(given, name)]:
                for budget in map(int, given.adaptive.split(",")):
                    tell(f"{way}-{budget}", counts(questions, ask(way, budget)))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


if __name__ == "__main__":
    main()
