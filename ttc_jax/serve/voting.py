"""The vote: the answer that the candidates of one or several searches elect."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from ttc_jax.experiments.recorder import Prompted, Recorder
from ttc_jax.experiments.solution import Alternative, elect
from ttc_jax.results import stopping
from ttc_jax.results.store import Candidate, Record
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.serve.service import Service
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question


class Found(NamedTuple):
    """What one search found for a question, and its candidates with their answers."""

    result: SearchResult
    record: Record


class Elected(NamedTuple):
    """The candidate whose answer is elected: of which search, and which of its rows."""

    search: int
    row: int
    answer: str | None
    alternatives: tuple[Alternative, ...]


def found_of(
    service: Service,
    search: Search,
    strategy: str,
    prompt: list[int],
    question: str,
    result: SearchResult,
) -> Found:
    """Returns a search's candidates with the answers that the task reads in them."""
    recorder = Recorder(
        service.task, service.models.tokenizer, PromptFormat(), search, strategy=strategy
    )
    prompted = Prompted(Question("question", question, ""), prompt)
    return Found(result, recorder.record(prompted, result))


def elected(found: Sequence[Found], service: Service) -> Elected:
    """Returns the candidate that is elected by all of several searches."""
    candidates = [candidate for one in found for candidate in one.record.candidates]
    best, alternatives = elect(candidates, service.rule, service.aggregation)
    at = next(i for i, candidate in enumerate(candidates) if candidate is best)
    for number, one in enumerate(found):
        if at < len(one.record.candidates):
            return Elected(number, at, best.answer, alternatives)
        at -= len(one.record.candidates)
    raise AssertionError


def certainty(alternatives: Sequence[Alternative]) -> float:
    """Returns how sure the vote is, see `stopping.certainty`."""
    votes = sorted((one.votes for one in alternatives), reverse=True)
    first, second = [*votes, 0, 0][:2]
    return float(stopping.certainty(first, second))


def trace(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Returns what a client is told of each candidate."""
    return [_told(candidate) for one in found for candidate in one.record.candidates]


def told(alternatives: Sequence[Alternative]) -> list[dict[str, Any]]:
    """Returns what a client is told of each answer."""
    return [dataclasses.asdict(one) for one in alternatives]


def _told(candidate: Candidate) -> dict[str, Any]:
    return {
        "text": candidate.text,
        "answer": candidate.answer,
        "finished": candidate.finished,
        "log_prob": candidate.log_prob,
        "step_scores": candidate.step_scores,
    }
