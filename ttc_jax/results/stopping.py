"""Fewer votes: stopping once a vote is settled, and leaving out answers of little confidence.

Both are replayed on pools of independent candidates that are there already: no model is asked.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from ttc_jax.errors import UserError
from ttc_jax.results.credit import Pool, as_pool
from ttc_jax.results.curves import Estimate, bootstrap, bootstrap_of
from ttc_jax.results.selection import NO_ANSWER, shares
from ttc_jax.results.store import Record


def certainty(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Returns how probable it is that the leading answer would win if many more were drawn.

    It is held against the second one alone, with every share of the two as probable before the
    first is drawn (adaptive consistency, Aggarwal et al., 2023).

    Args:
      first, second: the votes of the two.
    """
    return beta.sf(0.5, np.add(first, 1), np.add(second, 1))


def admitted(answers: NDArray[np.int64], confidence: float) -> NDArray[np.int64]:
    """Returns how many candidates vote until the vote is settled; all, where it never is.

    Args:
      answers: [S, N] ids as of `answer_ids`, in the order in which they come.
      confidence: at which `certainty` is enough.
    """
    S, N = answers.shape
    settled = certainty(*np.indices((N + 1, N + 1))) >= confidence  # by the votes of both
    votes = np.zeros((S, int(answers.max(initial=NO_ANSWER)) + 3), np.int64)  # of two at least
    found, open_ = np.full(S, N), np.ones(S, bool)
    for n in range(N):
        votes[np.arange(S), answers[:, n] + 1] += answers[:, n] != NO_ANSWER
        second, first = np.partition(votes, -2, axis=1)[:, -2:].T
        now = open_ & settled[first, second]
        found[now] = n + 1
        open_ &= ~now
    return found


def early_stopped(
    pool: Pool, tokens: NDArray[np.int64], confidence: float, orders: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Returns accuracy, tokens and candidates of a majority that stops once it is settled.

    Args:
      pool: of one question.
      tokens: [N] of its candidates.
      confidence: see `admitted`.
      orders: [S, N] in which candidates come; what is returned is their mean.
    """
    answers = pool.answers[orders]
    count = admitted(answers, confidence)
    votes = np.arange(answers.shape[1]) < count[:, None]
    heard = np.where(votes, answers, NO_ANSWER)
    right = (shares("majority", heard, np.zeros(heard.shape)) * pool.correct[orders]).sum(-1)
    return float(right.mean()), float((tokens[orders] * votes).sum(-1).mean()), float(count.mean())


def confident(pool: Pool, confidence: NDArray[np.float64], keep: float) -> float:
    """Returns the accuracy of a vote of the most confident candidates, each as much as it is sure.

    DeepConf of whole answers (Fu et al., 2025, §3.1); of equal ones the first are kept.

    Args:
      confidence: [N] of candidates, 0 to 1.
      keep: share of them that votes; at least one does.
    """
    count = max(1, math.ceil(keep * len(confidence) - 1e-9))
    kept = np.argsort(-confidence, kind="stable")[:count]
    held = shares("best_of_n_weighted", pool.answers[None, kept], confidence[None, kept])
    return float((held[0] * pool.correct[kept]).sum())


@dataclasses.dataclass(frozen=True)
class Replay:
    """What a way of voting earns and takes, over questions.

    Attributes:
      accuracy: of the answer that wins.
      over_majority: the same, less that of all candidates' majority, question by question.
      tokens: share of all candidates' tokens that it takes.
      candidates: that it takes, on average.
    """

    accuracy: Estimate
    over_majority: Estimate
    tokens: Estimate
    candidates: float


def replay(
    records: Sequence[Record],
    confidences: Sequence[float] = (0.8, 0.9, 0.95),
    keeps: Sequence[float] = (0.1, 0.5, 0.9, 1.0),
    orders: int = 200,
    seed: int = 0,
) -> dict[str, Replay]:
    """Replays early-stopped votes and DeepConf beside the majority of all candidates.

    Args:
      records: pools of independent candidates, one a question.
      confidences: of votes that stop once they are settled, "settled at 0.9".
      keeps: shares of candidates that vote by their confidence, exp(mean log-probability of an
        answer's tokens): "most confident 0.5".
      orders: random ones of each pool, which are averaged.
      seed: of the orders and the intervals.

    Returns:
      By name, "majority" first; with 95 % bootstrap intervals over questions.

    Raises:
      UserError: no record, a pool that is empty or revises, one question twice, or candidates whose
        tokens or log-probabilities were not counted.
    """
    _check(records)
    ways: dict[str, Any] = {"majority": functools.partial(early_stopped, confidence=math.inf)}
    for level in confidences:
        ways[f"settled at {level:g}"] = functools.partial(early_stopped, confidence=level)
    rows = []
    for record in records:
        pool, candidates = as_pool(record, seed=seed), record.candidates
        tokens = np.array([candidate.generated for candidate in candidates])
        sure = np.exp(np.array([candidate.log_prob for candidate in candidates]) / tokens)
        every = np.tile(np.arange(len(candidates)), (orders, 1))
        drawn = np.random.default_rng(pool.seed).permuted(every, axis=1)
        found = [way(pool, tokens, orders=drawn) for way in ways.values()]
        whole = tokens.sum(), len(candidates)
        rows.append([*found, *((confident(pool, sure, keep), *whole) for keep in keeps)])
    names = [*ways, *(f"most confident {keep:g}" for keep in keeps)]
    return _estimates(names, np.array(rows), seed)


def _check(records: Sequence[Record]) -> None:
    """Refuses records that cannot be replayed."""
    if not records:
        raise UserError("results: no record to replay; run the job that samples first")
    seen = set()
    for record in records:
        where = f"results: question {record.question!r}"
        if record.question in seen:
            raise UserError(f"{where} has several pools; replay one strategy and seed at a time")
        seen.add(record.question)
        if not record.candidates or record.sequential > 1:
            raise UserError(f"{where} has no pool of independent candidates; replay best_of_n")
        if not all(x.generated and math.isfinite(x.log_prob) for x in record.candidates):
            raise UserError(
                f"{where} has candidates without tokens or log-probabilities, as some other "
                "programs leave them out; replay records of ttc run"
            )


def _estimates(names: Sequence[str], found: NDArray[np.float64], seed: int) -> dict[str, Replay]:
    """Returns estimates from [B, ways, 3]: accuracy, tokens and candidates of each question."""
    right, tokens, count = np.moveaxis(found, -1, 0)
    accuracy = bootstrap(right, seed)
    over = bootstrap(right - right[:, :1], seed)
    share = bootstrap_of(tokens, lambda sums: sums / sums[..., :1], seed)
    replays = {}
    for name, one, other, part, mean in zip(
        names, accuracy, over, share, count.mean(0).tolist(), strict=True
    ):
        assert part is not None  # every pool has tokens
        replays[name] = Replay(one, other, part, mean)
    return replays
