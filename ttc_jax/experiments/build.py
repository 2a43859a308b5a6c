"""The search that a config names: its models, prompts and plan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.recorder import Recorder
from ttc_jax.experiments.sections import (
    generator_of,
    mesh_of,
    questions_at_once,
    sampling_params,
    storage,
    strategy_of,
)
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.sampling.programs import shards
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search, check_shards
from ttc_jax.search.strategies import Strategy
from ttc_jax.search.strategies.check import check_strategy
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.verifier import Verifier

_log = logging.getLogger(__name__)
# How questions are put together and on what devices, and how many trees are kept, is no other run.
# Of these only the mesh changes shapes, and so the last bits of scores (see `Search`): it may
# change, since a run may have to go on with other devices than those it was killed on.
SCHEDULE = ("execution.refill", "execution.segment", "search.trees", "execution.mesh")


def check(config: ConfigDict) -> Strategy:
    """Returns a config's strategy, and refuses values that no run can use, before models are read.

    Raises:
      UserError: a value out of range, a strategy that does not fit N or lacks a verifier, a batch
        or lanes that the mesh does not divide, more devices than there are, or prompts that cannot
        be written.
    """
    check_fields(config)
    for name, text in (
        ("generator.path", config.generator.path),
        ("step_delimiter", config.step_delimiter),
    ):
        if not text:
            raise UserError(f"{as_flag(name, text)}: must not be empty")
    search = config.search
    strategy = strategy_of(search)
    scored = bool(config.verifier.path)
    check_strategy(strategy, config.sampling.n, search.lookahead, scored=scored)
    mesh = mesh_of(config, jax.local_devices())
    check_shards(mesh, questions_at_once(config, config.sampling.n), config.execution.lanes)
    PromptFormat(**config.prompt)
    return strategy


class Loaders(NamedTuple):
    """What loads a model by its path; where several searches share models, from a cache."""

    generator: Callable[..., Transformer] = load_generator
    verifier: Callable[..., Verifier | None] = load_verifier


LOAD = Loaders()


def recorder(
    config: ConfigDict,
    task: Task,
    strategy: Strategy,
    load: Loaders = LOAD,
    *,
    questions: int | None = None,
) -> Recorder:
    """Returns the search with the models that a config names.

    Args:
      questions: of the whole run, over all hosts and also those that are done; a batch has no more
        slots than these need. Never how many are left: B is part of the shapes that are compiled,
        and with other shapes scores differ in their last bits.
    """
    execution, mesh = config.execution, mesh_of(config, jax.local_devices())
    batch = questions_at_once(config, config.sampling.n)
    if questions is not None:
        batch = min(batch, -(-questions // shards(mesh)) * shards(mesh))
    # First: a mistake in its path costs nothing, while the generator may be a long download.
    verifier = load.verifier(config.verifier.path, **storage(config.verifier), mesh=mesh)
    generator, tokenizer = generator_of(config, mesh, load.generator)
    adapter = PRMAdapter.of(verifier, tokenizer, config.step_delimiter)
    if adapter is not None:
        way = "over the host: its tokenizer is another" if adapter.bridged else "in XLA"
        _log.info("the verifier reads what the generator writes %s", way)
    prompt = PromptFormat(**config.prompt)
    return Recorder(
        task=task,
        tokenizer=tokenizer,
        prompt=prompt,
        search=Search(
            generator,
            verifier,
            plan(config, strategy, tuple(prompt.between(tokenizer))),
            end_tokens=prompt.ends(tokenizer),
            delimiter=Delimiter.of(tokenizer, config.step_delimiter),
            batch=batch,
            refill=execution.refill,
            segment=execution.segment,
            seed=config.seed,
            prefix=prompt.front(tokenizer),
            adapter=adapter,
            mesh=mesh,
        ),
        strategy=config.search.strategy,
        seed=config.seed,
    )


def plan(config: ConfigDict, strategy: Strategy, between: tuple[int, ...]) -> Plan:
    """Returns what a config decides about a search; for `between` see `Plan`."""
    sampling, search = config.sampling, config.search
    return Plan(
        strategy,
        candidates=sampling.n,
        max_new_tokens=sampling.max_new_tokens,
        max_step_tokens=search.max_step_tokens,
        rounds=search.rounds,
        lookahead=search.lookahead,
        lanes=config.execution.lanes,
        revisions=search.revisions,
        between=between,
        sampling=sampling_params(config),
    )
