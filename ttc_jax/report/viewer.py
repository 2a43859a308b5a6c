"""What the search-tree viewer shows: trees in records, votes, the questions' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ttc_jax.results.selection import LOWEST_SCORE, RULES, answer_ids, answer_score, shares
from ttc_jax.results.store import Record
from ttc_jax.tasks.task import Question

CANDIDATES: Final = 64  # of a tree that are shown, the winner's first
_WEIGHTS: Final = {"majority": "candidates", "best_of_n": "best"}  # of a vote; else "sum"
NODES: Final = 1024  # of a tree that are shown, pruned ones included


def viewer(
    records: Sequence[Record],
    questions: Mapping[str, Question],
    rule: str = "best_of_n_weighted",
    aggregation: str = "last",
) -> dict[str, Any]:
    """The trees of records that keep theirs, as plain data; of several seeds the first.

    Args:
      questions: by id, where their texts are known.
      rule: how a final answer is chosen; without scores it is the majority.
      aggregation: see `answer_score`.

    Returns:
      "questions": a list of {"id", "text", "answer"}; "trees": a list in the records' order, see
      `_tree`; "first": which of them is shown at first.
    """
    kept: dict[tuple[str, str, int], Record] = {}
    for record in sorted(records, key=lambda record: (record.budget, record.seed)):
        if record.tree:
            kept.setdefault((record.question, record.strategy, record.budget), record)
    ids = dict.fromkeys(record.question for record in records if record.tree)
    trees = [_tree(record, rule, aggregation) for record in kept.values()]
    return {
        "first": _first(trees),
        "questions": [
            {
                "id": name,
                "text": questions[name].text if name in questions else "",
                "answer": questions[name].answer if name in questions else "",
            }
            for name in ids
        ],
        "trees": trees,
    }


def _first(trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns which tree tells the most: one whose answer is right, and nearly was not.

    Without steps that were given up there is no search to see, so those come after others.
    """

    def tells(tree: Mapping[str, Any]) -> tuple[bool, bool, float]:
        votes = [vote for vote in tree["votes"] if vote["answer"] is not None]
        weight = _WEIGHTS.get(tree["rule"], "sum")
        right = bool(votes) and votes[0]["correct"]
        best = max(votes[0][weight], 1e-9) if votes else 1.0
        wrong = max((vote[weight] / best for vote in votes if not vote["correct"]), default=0.0)
        pruned = any(not node["alive"] for node in tree["nodes"])
        return right, pruned, wrong

    if not trees:
        return {}
    best = max(trees, key=tells)
    return {name: best[name] for name in ("question", "strategy", "budget")}


def _tree(record: Record, rule: str, aggregation: str) -> dict[str, Any]:
    """One search: its nodes, the candidates at their ends, and the vote among all of them.

    A node's "alive" says whether it leads to a candidate; "group" numbers the chain or the answer
    of a root, 0 where there is but one; "times" says how many equal ones it stands for.
    """
    candidates = record.candidates
    scores = np.array([answer_score(x.step_scores, aggregation) for x in candidates])
    scored = bool((scores > LOWEST_SCORE).any())
    rule = rule if scored and rule in RULES else "majority"
    ids = answer_ids([candidate.answer for candidate in candidates])
    held = shares(rule, ids, scores, record.sequential)
    alive, shown = _shown(record, held)
    nodes = _merged(record, alive, shown)
    votes = []
    for which in dict.fromkeys(ids.tolist()):
        members = np.flatnonzero(ids == which)
        own = np.where(scores[members] > LOWEST_SCORE, scores[members], 0.0)
        one = candidates[members[0]]
        votes.append(
            {
                "answer": one.answer,
                "correct": one.correct,
                "candidates": len(members),
                "sum": float(own.sum()) if scored else None,
                "best": float(own.max()) if scored else None,
                "share": float(held[members].sum()),
            }
        )
    weight = _WEIGHTS.get(rule, "sum")
    votes.sort(key=lambda vote: (-vote["share"], -vote[weight], vote["answer"] is None))
    return {
        "question": record.question,
        "strategy": record.strategy,
        "budget": record.budget,
        "sequential": record.sequential,
        "rule": rule,
        "candidates": [
            {"answer": x.answer, "correct": x.correct, "finished": x.finished} for x in candidates
        ],
        "nodes": nodes,
        "cut": len(record.tree) - len(shown),
        "votes": votes,
    }


def _merged(record: Record, alive: set[int], shown: Sequence[int]) -> list[dict[str, Any]]:
    """The nodes that are shown; those of one text behind one node are one, and so what follows.

    Steps that were given up stay apart from those that live on, ends from ends of another answer,
    and answers of a chain from each other. Rows of one text have one score but for the last bits.
    """
    place: dict[int, int] = {}  # node -> the one that stands for it
    known: dict[Any, int] = {}
    nodes: list[dict[str, Any]] = []
    for index in shown:
        node = record.tree[index]
        parent = place.get(node.parent, -1)
        end = None if node.candidate is None else record.candidates[node.candidate]
        ends = end and (end.answer, end.correct, end.finished)
        group = _group(record, index) if node.parent < 0 else 0
        score = None if node.score is None else round(node.score, 4)
        own = index if record.sequential > 1 else -1
        key = (parent, node.text, score, ends, index in alive, group, own)
        if key in known:
            place[index] = known[key]
            nodes[known[key]]["times"] += 1
            continue
        place[index] = known[key] = len(nodes)
        nodes.append(
            {
                "parent": parent,
                "text": node.text,
                "score": node.score,
                "candidate": node.candidate,
                "alive": index in alive,
                "group": group,
                "times": 1,
            }
        )
    return nodes


def _shown(record: Record, held: np.ndarray) -> tuple[set[int], list[int]]:
    """The nodes that lead to a candidate, and those that are shown, in order.

    Args:
      held: [N] share of the choice that each candidate holds.
    """

    def upwards(node: int) -> list[int]:
        found = []
        while node >= 0:
            found.append(node)
            node = record.tree[node].parent
        return found

    ends = {node.candidate: i for i, node in enumerate(record.tree) if node.candidate is not None}
    alive = {node for end in ends.values() for node in upwards(end)}
    order = sorted(ends, key=lambda candidate: (-held[candidate], candidate))
    # Of chains all answers or none.
    s = record.sequential
    chains = list(dict.fromkeys(candidate // s for candidate in order))[: max(CANDIDATES // s, 1)]
    chosen = [chain * s + i for chain in chains for i in range(s)]
    shown = {node for candidate in chosen if candidate in ends for node in upwards(ends[candidate])}
    for index in range(len(record.tree)):
        if len(shown) >= NODES:
            break
        parent = record.tree[index].parent
        if index not in alive and (parent < 0 or parent in shown):
            shown.add(index)
    return alive, sorted(shown)


def _group(record: Record, root: int) -> int:
    """Which chain, or which of several answers, a root belongs to, from 1; 0: there is but one."""
    if record.sequential > 1:
        # The nodes of an answer in one go follow each other.
        end = next(i for i in range(root, len(record.tree)) if record.tree[i].candidate is not None)
        return (record.tree[end].candidate or 0) // record.sequential + 1
    begins = sorted({node.round for node in record.tree if node.parent < 0})
    return begins.index(record.tree[root].round) + 1 if len(begins) > 1 else 0
