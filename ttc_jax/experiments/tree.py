"""A search's trace as the tree that it is, in text (paper, figure 2)."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence

import numpy as np

from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.results.store import Node
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import SearchResult
from ttc_jax.verifiers.steps import step_ends


def tree(
    outcome: SearchResult, plan: Plan, tokenizer: Tokenizer, delimiter: Delimiter
) -> tuple[Node, ...]:
    """Returns every step that was written, pruned ones too, parents before children.

    A row that became the parent of several is one node with several children. Answers that are
    written in one go are cut into their steps. Every answer that is revised begins with roots of
    its own.

    Args:
      delimiter: ends steps.

    Returns:
      The nodes; along a path from a root to a candidate their texts make the candidate's.
    """
    line, judged = outcome.trace, bool(outcome.scored.any())
    R, N = line.parents.shape
    parents: list[int] = []
    rounds: list[int] = []
    scores: list[float | None] = []
    tokens: list[list[int]] = []  # from the answer's first one to the node's last
    at: list[int] = []
    finals = range(0)
    ends_at: dict[int, int] = {}  # node -> candidate
    for r in range(R):
        answer = int(line.answers[r, 0])
        if r == 0 or answer != line.answers[r - 1, 0]:
            at = [-1] * N  # the node that each row stands at
            finals = _finals(plan, N, answer)
        for n, candidate in enumerate(finals):
            written = line.tokens[r, n, : line.ends[r, n] - line.starts[r, n]].tolist()
            ended = bool(outcome.finished[candidate])
            for first, end in _steps(plan, written, ended, delimiter):
                parents.append(at[n])
                rounds.append(r)
                tokens.append((tokens[at[n]] if at[n] >= 0 else []) + written[first:end])
                if plan.strategy.stops_at_steps:
                    found = line.scores[r, n : n + judged].tolist()
                else:
                    here = outcome.scored[candidate, first:end]
                    found = outcome.step_scores[candidate, first:end][here].tolist()
                scores.append(found[-1] if found else None)
                at[n] = len(parents) - 1
        if r + 1 == R or line.answers[r + 1, 0] != answer:
            ends_at |= dict(zip(at, finals, strict=True))
        at = [at[parent] for parent in line.parents[r]]
    texts = _texts(tokens, ends_at, tokenizer)
    return tuple(
        Node(
            parent=parent,
            round=rounds[node],
            text=texts[node][len(texts[parent]) if parent >= 0 else 0 :],
            score=scores[node],
            candidate=ends_at.get(node),
        )
        for node, parent in enumerate(parents)
    )


def _texts(tokens: Sequence[list[int]], ends: Container[int], tokenizer: Tokenizer) -> list[str]:
    """Returns each node's text from the answer's start on.

    Args:
      ends: nodes behind which nothing comes. Elsewhere what is left of a character comes with its
        next token.
    """
    return [
        whole if node in ends else whole.rstrip("\N{REPLACEMENT CHARACTER}")
        for node, whole in enumerate(map(tokenizer.decode, tokens))
    ]


def _finals(plan: Plan, rows: int, answer: int) -> range:
    """Returns the candidates that rows become with this answer of a chain."""
    every = range(rows * plan.revisions)
    if plan.sequential > 1:
        return every[answer :: plan.revisions]  # chain by chain
    return every[answer * rows : (answer + 1) * rows]  # revision by revision


def _steps(
    plan: Plan, written: list[int], ended: bool, delimiter: Delimiter
) -> Iterator[tuple[int, int]]:
    """Yields first and end of each step of what a row wrote in a round."""
    cuts = [len(written)] if written else []
    if written and not plan.strategy.stops_at_steps:
        row = np.asarray(written)
        ends = step_ends(row, np.asarray(len(row)), np.asarray(ended), delimiter)
        # What stands behind the last step, such as an end token, goes with it.
        cuts = [*(np.flatnonzero(ends)[:-1] + 1).tolist(), len(row)]
    return itertools.pairwise([0, *cuts])
