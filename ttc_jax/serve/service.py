"""The settings of a server, from a config."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import PurePath

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.fitted import Fitted, followed
from ttc_jax.experiments.sections import (
    entry_of,
    generator_of,
    make_ready,
    mesh_of,
    sampling_params,
    storage,
    task_of,
    thinking_of,
)
from ttc_jax.experiments.setup import Models
from ttc_jax.experiments.spending import PARALLEL, is_pool, shape
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.policy.allocation_file import AllocationFile, read_allocation
from ttc_jax.policy_file import Entry
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.search.execution import Execution
from ttc_jax.search.strategies import make_strategy
from ttc_jax.search.strategies.check import check_strategy
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.verifiers.load import load_verifier

POLICY = "policy"  # the strategy of clients that leave it to the policy
SAMPLES = f"{POLICY}/samples"  # those that tell how hard a question is
ALLOCATION = "allocation"  # the strategy that spends a budget unevenly over questions


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a client may ask for at most.

    Attributes:
      requests: that wait or are being answered.
      body_bytes: of a request.
      body_seconds: that a client may take to send it.
      prompts: of a request.
      n: completions of a prompt.
      prompt_tokens: of a prompt.
      answer_tokens: of an answer; programs are compiled for these, and a limit is rounded up.
      seconds: of a request; then its answer is what is written.
    """

    requests: int
    body_bytes: int
    body_seconds: float
    prompts: int
    n: int
    prompt_tokens: int
    answer_tokens: tuple[int, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Service:
    """What a server answers with, and how.

    Attributes:
      name: of the model, as clients give it.
      models: generator, tokenizer and verifier.
      task: whose rules read an answer.
      strategies: by the name that clients give.
      budgets: generations that each of them can be given.
      strategy: the one of clients that give a budget alone; "": there is none.
      fitted: the policy that is followed; None without one.
      allocation: the same of an allocation.
      budget: generations where a client says no number.
      rule, aggregation: how an answer is chosen from the candidates.
      sampling: what a client leaves open.
      max_tokens: of an answer, the same.
      programs: that have slots at once.
    """

    name: str
    models: Models
    task: Task
    strategies: Mapping[str, Entry]
    budgets: Mapping[str, tuple[int, ...]]
    strategy: str
    fitted: Fitted | None
    allocation: AllocationFile | None
    budget: int
    rule: str
    aggregation: str
    sampling: SamplingParams
    max_tokens: int
    max_step_tokens: int
    rounds: int
    prompt: PromptFormat
    step_delimiter: str
    thinking: ThinkingFormat | None
    rows: int
    execution: Execution
    programs: int
    seed: int
    bounds: Bounds

    @property
    def pools(self) -> frozenset[str]:
        """The strategies whose candidates are independent, and of which a budget says how many."""
        alike = {name for name, entry in self.strategies.items() if is_pool(entry)}
        return frozenset(alike - {ALLOCATION})

    @property
    def mesh(self) -> Mesh | None:
        """The mesh that the models are on."""
        return self.execution.mesh


def check(config: ConfigDict) -> tuple[ConfigDict, Fitted | None, AllocationFile | None]:
    """Refuses what no server can do, before a model is read.

    Returns:
      The config with its policy written out, that policy, and the allocation.

    Raises:
      UserError: names the field.
    """
    check_fields(config)
    serve, rule = config.serve, config.selection.rule
    if rule != "majority" and not config.verifier.path:
        raise UserError(
            f"{as_flag('selection.rule', rule)}: reads scores, and verifier.path is empty; name a "
            "verifier, or choose majority"
        )
    if config.budget not in serve.budgets:
        raise UserError(
            f"{as_flag('budget', config.budget)}: must be one of serve.budgets, "
            f"{', '.join(map(str, serve.budgets))}"
        )
    if config.sampling.max_new_tokens > max(serve.answer_tokens):
        raise UserError(
            f"{as_flag('sampling.max_new_tokens', config.sampling.max_new_tokens)}: is above all "
            f"of serve.answer_tokens, {', '.join(map(str, serve.answer_tokens))}"
        )
    config, fitted = followed(config)
    if fitted is not None and fitted.difficulty != "predicted":
        raise UserError(
            f"{as_flag('policy.path', config.policy.path)}: difficulty is told by "
            f"{fitted.difficulty}; a server follows policies whose difficulty is predicted: write "
            "it anew with --config.policy.difficulty=predicted"
        )
    allocation = _allocation(config)
    known = (POLICY,) * (fitted is not None) + (ALLOCATION,) * (allocation is not None)
    if serve.strategy and serve.strategy not in known:
        section = serve.strategies.get(serve.strategy)
        if section is None or config.budget not in _possible(entry_of(section), config):
            raise UserError(
                f"{as_flag('serve.strategy', serve.strategy)}: none of serve.strategies that can "
                f"spend a budget of {config.budget}, with the verifier that there is"
            )
    return config, fitted, allocation


def _allocation(config: ConfigDict) -> AllocationFile | None:
    """Returns the allocation that a config names, if it does.

    Raises:
      UserError: no such file, one of another shape, or none that this server can follow.
    """
    path = config.allocation.path
    if not path:
        return None
    found, where = read_allocation(path), as_flag("allocation.path", path)
    if not config.verifier.path:
        raise UserError(f"{where}: reads scores, and verifier.path is empty; name a verifier")
    if found.aggregation != config.selection.aggregation:
        raise UserError(
            f"{where}: was fitted with selection.aggregation={found.aggregation}; give that, or "
            "write it anew"
        )
    known = ", ".join(map(str, found.budgets))
    if not {*found.budgets} & {*config.serve.budgets}:
        raise UserError(f"{where}: has average budgets of {known}; put one into serve.budgets")
    if config.serve.strategy == ALLOCATION and config.budget not in found.budgets:
        raise UserError(f"{as_flag('budget', config.budget)}: the allocation has {known}")
    return found


def _possible(entry: Entry, config: ConfigDict) -> tuple[int, ...]:
    """Returns the budgets that a strategy can be given; none, where it lacks a verifier.

    Raises:
      UserError: an unknown strategy, or one that brings what a server has one of.
    """
    if entry.generator or entry.verifier or entry.ratio or entry.thinking >= 0:
        raise UserError(
            f"serve.strategies: {entry.strategy} has a model, a ratio or a maximum of thought of "
            "its own, which a server does not give each strategy"
        )
    strategy = make_strategy(entry.strategy, **entry.options)
    found, scored = list[int](), bool(config.verifier.path)
    for budget in sorted(config.serve.budgets):
        if spent := shape(strategy, budget, entry.lookahead, entry.ratio):
            with contextlib.suppress(UserError):
                check_strategy(strategy, spent[0], entry.lookahead, scored=scored)
                found.append(budget)
    return tuple(found)


def service_of(config: ConfigDict) -> Service:
    """Returns what a config says, with its models loaded.

    Raises:
      UserError: as `check`, or as the loading of models.
    """
    config, fitted, allocation = check(config)
    serve, mesh = config.serve, mesh_of(config, jax.local_devices())
    task = task_of(config.task)
    make_ready(task)
    # First: a mistake in its path costs nothing, while the generator may be a long download.
    verifier = load_verifier(config.verifier.path, **storage(config.verifier), mesh=mesh)
    models = Models(*generator_of(config, mesh, load_generator), verifier)
    strategies = {name: entry_of(section) for name, section in serve.strategies.items()}
    budgets = {name: _possible(entry, config) for name, entry in strategies.items()}
    budgets = {name: possible for name, possible in budgets.items() if possible}
    if fitted is not None:
        fitted = fitted.beside(config.generator.path, config.verifier.path)
        least = fitted.policy.least
        budgets[POLICY] = tuple(budget for budget in sorted(serve.budgets) if budget >= least)
        strategies[SAMPLES] = PARALLEL
        for name, entry in fitted.strategies.items():
            _possible(entry, config)
            strategies[f"{POLICY}/{name}"] = entry
    for name, entry in strategies.items():
        if entry.judge:
            raise UserError(
                f"the strategy {name.removeprefix(f'{POLICY}/')} has the judge {entry.judge}: the "
                "server has candidates vote; leave the strategy out, or its judge"
            )
    if allocation is not None:
        budgets[ALLOCATION] = tuple(sorted({*serve.budgets} & {*allocation.budgets}))
        strategies[ALLOCATION] = PARALLEL
    bounds = {field.name: serve[field.name] for field in dataclasses.fields(Bounds)}
    bounds["answer_tokens"] = tuple(sorted(bounds["answer_tokens"]))
    return Service(
        name=serve.name or PurePath(config.generator.path).name.replace(":", "-"),
        models=models,
        task=task,
        strategies=strategies,
        budgets=budgets,
        strategy=serve.strategy,
        fitted=fitted,
        allocation=allocation,
        budget=config.budget,
        rule=config.selection.rule,
        aggregation=config.selection.aggregation,
        sampling=sampling_params(config),
        max_tokens=config.sampling.max_new_tokens,
        max_step_tokens=config.search.max_step_tokens,
        rounds=config.search.rounds,
        prompt=_prompt_of(config, models.tokenizer),
        step_delimiter=config.step_delimiter,
        thinking=thinking_of(config),
        rows=config.execution.rows,
        execution=build.execution(config, config.execution.mesh.data, mesh),
        programs=serve.programs,
        seed=config.seed,
        bounds=Bounds(**bounds),
    )


def _prompt_of(config: ConfigDict, tokenizer: Tokenizer) -> PromptFormat:
    """Returns how conversations become prompts: in the tokenizer's chat template, if it has one."""
    found = PromptFormat(**config.prompt)
    if found.chat:
        return found
    try:
        tokenizer.chat([{"role": "user", "content": "a"}])
    except UserError:
        return found
    return dataclasses.replace(found, chat=True)
