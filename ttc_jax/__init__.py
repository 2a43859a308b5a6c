"""Scaling test-time compute for language models in JAX.

A language model answers better when it may spend more compute on a question: sample many answers,
score their steps with a verifier, search, revise, and choose. ttc_jax does so on token ids inside
one XLA program, counts every token and FLOP, and learns which strategy pays off at which difficulty
(Snell et al., 2024, "Scaling LLM Test-Time Compute Optimally").

The names below are imported when first used, so that `import ttc_jax` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttc_jax.experiments.recorder import Recorder
    from ttc_jax.llm.llm import LLM
    from ttc_jax.models.delimiters import Delimiter
    from ttc_jax.models.tokenizers import load_tokenizer
    from ttc_jax.models.weights import load_generator
    from ttc_jax.results.curves import accuracy_curves, question_accuracy
    from ttc_jax.results.store import ResultsStore
    from ttc_jax.sampling.draw import SamplingParams
    from ttc_jax.sampling.sampler import Sampler
    from ttc_jax.sampling.thinking import ThinkingFormat
    from ttc_jax.search.execution import Execution
    from ttc_jax.search.plan import Plan
    from ttc_jax.search.search import Search
    from ttc_jax.search.strategies import make_strategy
    from ttc_jax.tasks import load_task
    from ttc_jax.tasks.prompts import PromptFormat
    from ttc_jax.verifiers.adapter import PRMAdapter
    from ttc_jax.verifiers.load import load_verifier

__version__ = "0.1.0"

_HOMES = {
    "LLM": "llm.llm",
    "Delimiter": "models.delimiters",
    "SamplingParams": "sampling.draw",
    "Execution": "search.execution",
    "Plan": "search.plan",
    "PRMAdapter": "verifiers.adapter",
    "PromptFormat": "tasks.prompts",
    "Recorder": "experiments.recorder",
    "ResultsStore": "results.store",
    "Sampler": "sampling.sampler",
    "Search": "search.search",
    "ThinkingFormat": "sampling.thinking",
    "accuracy_curves": "results.curves",
    "load_generator": "models.weights",
    "load_task": "tasks",
    "load_tokenizer": "models.tokenizers",
    "load_verifier": "verifiers.load",
    "make_strategy": "search.strategies",
    "question_accuracy": "results.curves",
}
__all__ = [
    "LLM",
    "Delimiter",
    "Execution",
    "PRMAdapter",
    "Plan",
    "PromptFormat",
    "Recorder",
    "ResultsStore",
    "Sampler",
    "SamplingParams",
    "Search",
    "ThinkingFormat",
    "accuracy_curves",
    "load_generator",
    "load_task",
    "load_tokenizer",
    "load_verifier",
    "make_strategy",
    "question_accuracy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ttc_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ttc_jax.{_HOMES[name]}"), name)
