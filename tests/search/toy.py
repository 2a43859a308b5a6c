"""A small generator, a verifier whose scores often tie, and one Search after another of them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from tests.sampling.oracle import TINY
from tests.verifiers.toy import tiny_prm
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.sampling.decode import DecodeState
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.search.strategies import make_strategy
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.probe import HiddenStateProbe
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

SHALLOW = dataclasses.replace(TINY, depth=1, windows=(6,), ropes=())  # compiles quickly
DELIMITERS = (10, 11, 12, 13, 14, 15, 16, 17)
ENDS = (3, 4, 17)  # one of them ends the step too
# What tokens write: delimiters a line break, or parts of a blank line; 0 is a special token.
LETTERS = ["", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"][: TINY.vocab_size]
LINES = ["\n" if i in DELIMITERS else text for i, text in enumerate(LETTERS)]
_BROKEN = iter(("\n", "\n", ".\n", ".\n\n", "\n\n", "\n#", "\n", "\n"))
BROKEN = [next(_BROKEN) if i in DELIMITERS else text for i, text in enumerate(LETTERS)]
GRADES = (0.5, 0.25, 0.75, 0.5)

Questions = Sequence[tuple[Sequence[int], int]]  # prompts and numbers


class Grader(Verifier):
    """Scores a step by its last token alone, in a few grades: ties are common.

    Its state, the tokens that it was shown, is there to be forked.
    """

    def __init__(self, vocab_size: int = TINY.vocab_size, step_format: StepFormat | None = None):
        self.vocab_size, self.step_format = vocab_size, step_format or StepFormat()
        table = np.resize(np.array(GRADES, np.float32), vocab_size)
        self.table = nnx.Param(jnp.asarray(table))

    @property
    def spec(self) -> VerifierSpec:
        return VerifierSpec(self.vocab_size, every_step=True, step_format=self.step_format)

    def init(
        self, prompts: Int[Array, "B P"], lengths: Int[Array, " B"], candidates: int, capacity: int
    ) -> Int[Array, "B N"]:
        del prompts, capacity
        return jnp.zeros((lengths.shape[0], candidates), jnp.int32)

    def score_steps(
        self, tokens: Int[Array, "B N T"], count: Int[Array, "B N"], state: Any, decode: DecodeState
    ) -> tuple[Float[Array, "B N T"], Any]:
        del decode
        return self.table[...][tokens], state + count

    def reset(self, context: Int[Array, "B N C"], count: Int[Array, "B N"], state: Any) -> Any:
        del context
        return jnp.zeros_like(state) + count

    def flops(self, first: int, tokens: int) -> int:
        return sum(grader_flops(first + i) for i in range(tokens))


def grader_flops(position: int) -> int:
    """Of one token: grows with its position, so that no position can be mistaken."""
    return 100 + position


def marked_prm(
    trunk: ModelConfig = TINY, markers: tuple[int, ...] = (), offset: int = 0, *, layered=True
) -> ProcessRewardModel:
    """The toy PRM, with scores that are not all near 0, and markers."""
    prm = nnx.clone(_plain_prm(trunk, layered=layered))
    prm.score[...] = 0.5 * jax.random.normal(jax.random.key(11), prm.score[...].shape)
    prm.config = dataclasses.replace(prm.config, step_format=StepFormat(markers, offset))
    return prm


_plain_prm = functools.cache(tiny_prm)


def random_probe(width: int = TINY.width) -> HiddenStateProbe:
    """A probe that has an opinion."""
    probe = HiddenStateProbe(width)
    probe.weights[...] = 0.5 * jax.random.normal(jax.random.key(5), (width,))
    probe.bias[...] = jnp.asarray(0.1)
    return probe


def delimiter(texts: Sequence[str] = LINES, text: str = "\n") -> Delimiter:
    return Delimiter.in_texts(texts, text)


def make_plan(strategy: str = "beam", options: dict[str, Any] | None = None, **changes) -> Plan:
    settings: dict[str, Any] = {"candidates": 4, "max_new_tokens": 14, "max_step_tokens": 4}
    settings |= {"rounds": 5} | changes
    return Plan(strategy=make_strategy(strategy, **(options or {})), **settings)


def make_search(generator, verifier, plan: Plan, **changes) -> Search:
    """A search of two slots; `changes` are arguments of `Search` and fields of `Execution`."""
    execution, others = on_devices(**{"batch": 2} | changes)
    options = {"end_tokens": ENDS, "delimiter": delimiter(), "seed": 3} | others
    return Search(generator, verifier, plan, execution=execution, **options)


def on_devices(**options: Any) -> tuple[Execution, dict[str, Any]]:
    """The fields of `Execution` among some options, and the others."""
    names = {field.name for field in dataclasses.fields(Execution)}
    ours = {name: value for name, value in options.items() if name in names}
    return Execution(**ours), {name: x for name, x in options.items() if name not in names}


def run(search: Search, questions: Questions) -> list[SearchResult]:
    """The outcomes in the questions' order."""
    found = dict(search.run([prompt for prompt, _ in questions], [n for _, n in questions]))
    return [found[i] for i in range(len(questions))]


def assert_alike(found: SearchResult, expected: SearchResult) -> None:
    """The same choices, from numbers that differ by rounding alone."""
    assert found.ledger == expected.ledger
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.trace.parents, expected.trace.parents)
    np.testing.assert_allclose(found.step_scores, expected.step_scores, atol=1e-5)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=1e-5)


def run_shown(
    search: Search, texts: Sequence[str], prompts: Sequence[Sequence[int]], numbers: Sequence[int]
) -> list[SearchResult]:
    """The outcomes where a verifier with a format is asked these texts."""
    assert search.adapter is not None
    shown = [search.adapter.prompt(text) for text in texts]
    found = dict(search.run(prompts, numbers, shown))
    return [found[i] for i in range(len(prompts))]
