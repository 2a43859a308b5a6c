"""Searches for answers to every question, grades them, and reports accuracy against N.

Records are appended to WORKDIR/results/ as they come, so that a killed run goes on where it was. Of
several hosts each takes a share of the questions; the first reports what all have stored. At the
end the workdir holds summary.json, accuracy.png/.svg/.csv, timing.json and, where answers are
revised, chains.png/.svg; with another `selection` the same records are reported anew. A config of
several stages runs them all, each in a folder of the workdir.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ttc_jax import assets
from ttc_jax.config import at_least, claim_workdir, one_of, to_json
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import DTYPES, load_generator
from ttc_jax.parallel import hosts
from ttc_jax.parallel.mesh import mesh_of
from ttc_jax.pipeline import run_stages
from ttc_jax.report.figures import write_accuracy, write_chains
from ttc_jax.report.tables import print_summary
from ttc_jax.results.chains import summarise_chains
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import summarise, write_json, write_summary
from ttc_jax.sampling.draw import Drawing
from ttc_jax.search.aggregate import AGGREGATIONS
from ttc_jax.search.plan import Plan
from ttc_jax.search.records import Recorder
from ttc_jax.search.search import Search
from ttc_jax.search.strategies import Strategy, make_strategy
from ttc_jax.tasks import load_task
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.presentation import Presentation
from ttc_jax.verifiers.verifier import Verifier

_log = logging.getLogger(__name__)
# How questions are put together and on what devices, and how many trees are kept, is no other run.
SCHEDULE = ("search.refill", "search.segment", "search.trees", "mesh")


def main(config: ConfigDict, workdir: Path) -> None:
    """Searches for the questions that the store does not hold yet, then reports."""
    if "stages" in config:
        run_stages(config, workdir)
        return
    check(config)
    strategy = make_strategy(config.search.strategy, config.search.options)
    task = load_task(config.task)
    questions = task.questions(config.split)[: config.limit or None]
    store = ResultsStore(workdir, shard=hosts.index())
    done = {question for question, *_ in store.done()}
    trees = frozenset(question.id for question in questions[: config.search.trees])
    questions = hosts.mine(questions)
    todo = [question for question in questions if question.id not in done]
    recorder = build(config, task, strategy) if todo else None
    prompted = recorder.encode(todo) if recorder else []
    # Not before: a mistake found so far leaves the workdir free for the mended config.
    claim_workdir(workdir, config, may_change=(*SCHEDULE, "selection"))
    if recorder:
        held = len(questions) - len(todo)
        with tqdm(total=len(questions), initial=held, desc="search", unit="question") as bar:
            for record in dataclasses.replace(recorder, trees=trees).run(prompted):
                store.append([record])
                bar.update()
    hosts.wait("all records stored")
    if hosts.is_first():
        report(config, workdir, store, strategy)


def check(config: ConfigDict) -> None:
    """Refuses values that no run can use."""
    at_least(config, 1, "sampling.n", "sampling.max_new_tokens", "sampling.questions_per_batch")
    at_least(config, 1, "selection.subsets")
    at_least(config, 0, "limit", "search.trees")
    one_of(config, "selection.aggregation", tuple(AGGREGATIONS))
    for model in ("generator", "verifier"):
        one_of(config, f"{model}.dtype", DTYPES)


class Loaders(NamedTuple):
    """What loads a model by its path; where several searches share models, from a cache."""

    generator: Callable[..., Transformer] = load_generator
    verifier: Callable[..., Verifier | None] = load_verifier


LOAD = Loaders()


def build(config: ConfigDict, task: Task, strategy: Strategy, load: Loaders = LOAD) -> Recorder:
    """The search with the models that a config names."""
    sampling, search = config.sampling, config.search
    mesh = mesh_of(config, jax.local_devices())
    # First: a mistake in its path costs nothing, while the generator may be a long download.
    verifier = load.verifier(config.verifier.path, dtype=config.verifier.dtype, mesh=mesh)
    path = assets.locate(config.generator.path)
    generator = load.generator(path, dtype=config.generator.dtype, mesh=mesh)
    tokenizer = load_tokenizer(path, generator.config.vocab_size)
    presentation = None
    if verifier is not None and verifier.format is not None:
        presentation = Presentation(verifier, tokenizer, config.step_delimiter)
        way = "over the host: its tokenizer is another" if presentation.bridged else "in XLA"
        _log.info("the verifier reads what the generator writes %s", way)
    prompt = PromptFormat(**config.prompt)
    plan = plan_of(config, strategy, tuple(prompt.between(tokenizer)))
    return Recorder(
        task=task,
        tokenizer=tokenizer,
        prompt=prompt,
        search=Search(
            generator,
            verifier,
            plan,
            end_tokens=tokenizer.eos_ids,
            delimiters=np.asarray(tokenizer.containing(config.step_delimiter)),
            batch=sampling.questions_per_batch,
            refill=search.refill,
            segment=search.segment,
            seed=config.seed,
            presentation=presentation,
            mesh=mesh,
        ),
        strategy=search.strategy,
        seed=config.seed,
    )


def plan_of(config: ConfigDict, strategy: Strategy, between: tuple[int, ...]) -> Plan:
    """What a config decides about a search; for `between` see `Plan`."""
    sampling, search = config.sampling, config.search
    return Plan(
        strategy,
        candidates=sampling.n,
        max_new_tokens=sampling.max_new_tokens,
        max_step_tokens=search.max_step_tokens,
        rounds=search.rounds,
        lookahead=search.lookahead,
        lanes=search.lanes,
        revisions=search.revisions,
        between=between,
        drawing=Drawing(sampling.temperature, sampling.top_k, sampling.top_p),
    )


def report(config: ConfigDict, workdir: Path, store: ResultsStore, strategy: Strategy) -> None:
    """Writes summary, timing and figures of what the store holds, and prints the table."""
    records = store.read()
    summary = summarise(
        records,
        to_json(config),
        # Subsets of a pool are pools; subsets of a search's candidates are no smaller searches.
        budgets=(config.sampling.n * config.search.revisions,) if strategy.stops_at_steps else None,
        aggregation=config.selection.aggregation,
        subsets=config.selection.subsets,
        seed=config.seed,
    )
    chained = any(record.sequential > 1 for record in records)
    if chained:
        summary["chains"] = summarise_chains(records, config.seed)
        write_chains(summary, workdir)
    path = write_summary(workdir, summary)
    seconds = sum(record.seconds for record in records)
    rate = summary["ledger"]["decode_tokens"] / seconds
    write_json(workdir / "timing.json", {"seconds": seconds, "tokens_per_second": rate})
    write_accuracy(summary, workdir)
    print_summary(summary)
    print(f"time: {seconds:,.0f} s, {rate:,.0f} tokens/s, compiling and scoring included")
    print(f"summary: {path}\nreport: {workdir / 'accuracy.png'}")
