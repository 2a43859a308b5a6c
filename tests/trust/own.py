"""Tasks and strategies of a user's own, each of them wrong in one way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ttc_jax.search.strategies import Strategy
from ttc_jax.tasks.task import Question, Verdict

ONE = Question("one", "a+1:", "1")
NUMBER = 3  # no class


class Whole:
    """A task as it should be."""

    def questions(self, split: str) -> list[Question]:
        return [ONE]

    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        return [Verdict(None, False) for _ in solutions]


class NoQuestions:
    def judge(self, question: Question, solutions: Sequence[str]) -> list[Verdict]:
        return []


class NoJudge:
    def questions(self, split: str) -> list[Question]:
        return [ONE]


class JudgeIsText(NoJudge):
    judge = "yes"


class NeedsMore(Whole):
    def __init__(self, path: str, extra: int) -> None:
        self.path, self.extra = path, extra


class RaisesAtOnce(Whole):
    def __init__(self) -> None:
        raise RuntimeError("no licence\nfound")


class Leaves(Whole):
    def __init__(self) -> None:
        raise SystemExit(3)


class RaisesInQuestions(Whole):
    def questions(self, split: str) -> list[Question]:
        return [{"id": 1}["name"]]  # type: ignore[index]


class DividesByZero(Whole):
    def questions(self, split: str) -> list[Question]:
        return [ONE][1 // 0 :]


class Recurses(Whole):
    def questions(self, split: str) -> list[Question]:
        return self.questions(split)


class Empty(Whole):
    def questions(self, split: str) -> list[Question]:
        return []


class NoList(Whole):
    def questions(self, split: str) -> Any:
        return None


class Generates(Whole):
    def questions(self, split: str) -> Iterator[Question]:  # type: ignore[override]
        yield ONE


class Dictionary(Whole):
    def questions(self, split: str) -> Any:
        return {"one": ONE}


class Texts(Whole):
    def questions(self, split: str) -> Any:
        return ["a+1:"]


class Rows(Whole):
    def questions(self, split: str) -> Any:
        return [{"id": "one", "text": "a+1:", "answer": "1"}]


class Twice(Whole):
    def questions(self, split: str) -> list[Question]:
        return [ONE, ONE]


class NumberAsAnswer(Whole):
    def questions(self, split: str) -> list[Question]:
        return [Question("one", "a+1:", 1)]  # type: ignore[arg-type]


class ControlInId(Whole):
    def questions(self, split: str) -> list[Question]:
        return [Question("one\x1b[2J", "a+1:", "1")]


class HalfPair(Whole):
    def questions(self, split: str) -> list[Question]:
        return [Question("one", "a+\ud800:", "1")]


class TakesNoSplit(Whole):
    def questions(self) -> list[Question]:  # type: ignore[override]
        return [ONE]


@dataclasses.dataclass(frozen=True)
class Keeps(Strategy):
    """A strategy as it should be."""

    width: int = 1

    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores))


class Unhashable(Keeps):
    __hash__ = None  # type: ignore[assignment]


class HashRaises(Keeps):
    def __hash__(self) -> int:
        raise TypeError("unhashable")


@dataclasses.dataclass(frozen=True)
class HoldsList(Keeps):
    rows: list[int] = dataclasses.field(default_factory=list)


class NoStrategy:
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores))


class NoSelect(Strategy):
    pass


class Beyond(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores)) + 1


class Negative(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores)) - 1


class Finished(Keeps):
    """The best row, finished or not."""

    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.full(len(scores), scores.argmax())


class Mask(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return scores > 0


class Scores(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return scores


class OneRow(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return scores.argmax()


class Fewer(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores))[1:]


class Nothing(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return None


class Pair(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores)), scores


class Sorts(Keeps):
    """Python's own sorting, which no program can be traced through."""

    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.asarray(sorted(range(len(scores)), key=lambda i: float(scores[i])))


class Branches(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.arange(len(scores)) if scores[0] > 0 else jnp.zeros(len(scores), int)


class Misspelled(Keeps):
    def select(self, scores: Any, active: Any, key: jax.Array) -> Any:
        return jnp.argsrot(scores)  # type: ignore[attr-defined]


class TwoArguments(Keeps):
    def select(self, scores: Any, active: Any) -> Any:  # type: ignore[override]
        return jnp.arange(len(scores))


class CheckRaises(Keeps):
    def check(self, candidates: int) -> None:
        raise AssertionError


@dataclasses.dataclass(frozen=True)
class InitRaises(Keeps):
    def __post_init__(self) -> None:
        raise ValueError("width is odd")
