"""Builds searches, with their models, prompts and plans, and solvers from configs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.fitted import followed
from ttc_jax.experiments.recorder import Recorder
from ttc_jax.experiments.sections import (
    entry_of,
    generator_of,
    make_ready,
    mesh_of,
    questions_at_once,
    sampling_params,
    storage,
    strategy_of,
    task_of,
    thinking_of,
)
from ttc_jax.experiments.setup import Models, Setup, make_recorder
from ttc_jax.experiments.solver import Solver
from ttc_jax.experiments.spending import name_models
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.policy_file import Entry
from ttc_jax.results.store import Record, ResultsStore
from ttc_jax.sampling.programs import shards
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.strategies import Strategy
from ttc_jax.search.strategies.check import check_strategy
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.verifiers.generative import load_judge
from ttc_jax.verifiers.judge import JudgeModel
from ttc_jax.verifiers.judge_format import check_judge
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.verifier import Verifier

# How questions are put together and on what devices, and how many trees are kept, is no other run.
# Of these only the mesh changes shapes, and so the last bits of scores (see `Search`): it may
# change, since a run may have to go on with other devices than those it was killed on.
_SCHEDULE = ("execution.refill", "execution.segment", "search.trees", "execution.mesh")


def may_change(config: ConfigDict) -> tuple[str, ...]:
    """Returns the fields of a config that may be others when a run goes on.

    So may all of `thinking` where the model does not think, but for the mark that says so.
    """
    if thinking_of(config) is not None:
        return _SCHEDULE
    names = (field.name for field in dataclasses.fields(ThinkingFormat))
    return (*_SCHEDULE, *(f"thinking.{name}" for name in names if name != "close"))


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
    _check_judges(config)
    search = config.search
    strategy = strategy_of(search)
    scored = bool(config.verifier.path)
    check_strategy(strategy, config.sampling.n, search.lookahead, scored=scored)
    mesh = mesh_of(config, jax.local_devices())
    execution(config, questions_at_once(config, config.sampling.n), mesh).check()
    PromptFormat(**config.prompt)
    thinking_of(config)
    return strategy


def _check_judges(config: ConfigDict) -> None:
    """Refuses judges that cannot do what they are named for, before models are read."""
    check_judge(config.verifier.path, "verifier.path", selects=False)
    check_judge(config.search.get("judge", ""), "search.judge", selects=True)


class Loaders(NamedTuple):
    """What loads a model by its path; where several searches share models, from a cache."""

    generator: Callable[..., Transformer] = load_generator
    verifier: Callable[..., Verifier | None] = load_verifier
    judge: Callable[..., JudgeModel | None] = load_judge


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
    make_ready(task)
    mesh = mesh_of(config, jax.local_devices())
    batch = questions_at_once(config, config.sampling.n)
    if questions is not None:
        batch = min(batch, -(-questions // shards(mesh)) * shards(mesh))
    return make_recorder(
        _models(config, mesh, load),
        task,
        plan(config, strategy),
        prompt=PromptFormat(**config.prompt),
        step_delimiter=config.step_delimiter,
        execution=execution(config, batch, mesh),
        seed=config.seed,
        name=config.search.strategy,
        thinking=thinking_of(config),
    )


def solver(
    config: ConfigDict,
    store: ResultsStore | None = None,
    held: Iterable[Record] = (),
    load: Loaders | None = None,
) -> Solver:
    """Returns what answers questions as a config of the job `solve` says.

    Args:
      store, held: as those of `Solver`.
      load: gives the models of a path; by default each is loaded once.

    Raises:
      UserError: a field that cannot be, or a policy that cannot be followed.
    """
    check_fields(config)
    if config.selection.rule != "majority" and not config.verifier.path:
        raise UserError(
            f"{as_flag('selection.rule', config.selection.rule)}: reads scores, and verifier.path "
            "is empty; name a verifier, or choose majority"
        )
    _check_judges(config)
    config, fitted = followed(config)
    once = functools.cache
    load = load or Loaders(once(load_generator), once(load_verifier), once(load_judge))
    task = task_of(config.task)
    make_ready(task)
    mesh = mesh_of(config, jax.local_devices())
    setup = Setup(
        functools.partial(_models_of, config, mesh, load),
        task,
        PromptFormat(**config.prompt),
        config.step_delimiter,
        config.sampling.max_new_tokens,
        config.search.max_step_tokens,
        config.search.rounds,
        sampling_params(config),
        config.execution.rows,
        execution(config, config.execution.mesh.data, mesh),
        config.seed,
        thinking=thinking_of(config),
    )
    paths = config.generator.path, config.verifier.path
    follow = fitted.beside(*paths) if fitted is not None else entry_of(config.search)
    return Solver(
        setup,
        follow,
        budget=config.budget,
        rule=config.selection.rule,
        aggregation=config.selection.aggregation,
        store=store,
        held=held,
    )


def _models_of(config: ConfigDict, mesh: Mesh | None, load: Loaders, entry: Entry) -> Models:
    """Returns the models of a strategy: its own where it names them, else the config's."""
    run = config.copy_and_resolve_references()
    name_models(run, entry)
    return _models(run, mesh, load)


def _models(config: ConfigDict, mesh: Mesh | None, load: Loaders) -> Models:
    """Returns the models that a config names."""
    # First: a mistake in its path costs nothing, while the generator may be a long download.
    verifier = load.verifier(config.verifier.path, **storage(config.verifier), mesh=mesh)
    judge = None
    if path := config.search.get("judge", ""):
        judge = load.judge(path, selects=True, **storage(config.generator), mesh=mesh)
    return Models(*generator_of(config, mesh, load.generator), verifier, judge)


def execution(config: ConfigDict, batch: int, mesh: Mesh | None) -> Execution:
    """Returns how questions are put together on the devices of a mesh."""
    found = config.execution
    return Execution(batch, found.lanes, found.refill, found.segment, mesh, found.get("cache", ""))


def plan(config: ConfigDict, strategy: Strategy) -> Plan:
    """Returns what a config decides about a search."""
    sampling, search = config.sampling, config.search
    return Plan(
        strategy,
        candidates=sampling.n,
        max_new_tokens=sampling.max_new_tokens,
        max_step_tokens=search.max_step_tokens,
        rounds=search.rounds,
        lookahead=search.lookahead,
        revisions=search.revisions,
        sampling=sampling_params(config),
    )
