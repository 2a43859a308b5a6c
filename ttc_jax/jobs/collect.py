"""Samples answers and values each of their steps by Monte-Carlo rollouts: what a PRM learns from.

Records are appended to WORKDIR/results/ as they come, so that a killed run goes on where it was. Of
several hosts each takes a share of the questions; the first reports what all have stored. At the
end the workdir holds summary.json and timing.json.
"""

from __future__ import annotations

from pathlib import Path

import jax
from ml_collections import ConfigDict

from ttc_jax.config import to_json
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.resumable import Part, fill, write_timing
from ttc_jax.experiments.sections import (
    generator_of,
    make_ready,
    mesh_of,
    questions_at_once,
    sampling_params,
    task_of,
)
from ttc_jax.experiments.workdir import exclusive
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.report.console import print_collection
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import summarise_collection, write_summary
from ttc_jax.sampling.rollouts import Rollouts
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.training.collection import Collector

# How work is put together changes the time it takes, and by rounding the last bits of
# log-probabilities (see `Search`). As long as these stay, what is left is the same to the bit.
SCHEDULE = ("execution", "rollouts.rows_per_question")


@exclusive
def main(config: ConfigDict, workdir: Path) -> None:
    """Collects for the questions that the store does not hold yet, then reports."""
    check_fields(config)
    task = task_of(config.task)
    questions = task.questions(config.split)[: config.limit or None]
    parts = [Part(lambda: build(config, task))]
    store = fill(workdir, config, questions, parts, may_change=SCHEDULE, title="rollouts")
    if store is not None:
        report(config, workdir, store)


def build(config: ConfigDict, task: Task) -> Collector:
    """Returns the collector with the generator that a config names."""
    make_ready(task)
    sampling, rollouts = config.sampling, config.rollouts
    mesh = mesh_of(config, jax.local_devices())
    generator, tokenizer = generator_of(config, mesh)
    prompt = PromptFormat(**config.prompt)
    return Collector(
        task=task,
        tokenizer=tokenizer,
        prompt=prompt,
        sampler=Rollouts(
            generator,
            ends=rollouts.ends,
            slots=questions_at_once(config, rollouts.rows_per_question),
            rows=rollouts.rows_per_question,
            end_tokens=prompt.ends(tokenizer),
            candidates=sampling.n,
            max_new_tokens=sampling.max_new_tokens,
            batch=questions_at_once(config, sampling.n),
            sampling=sampling_params(config),
            seed=config.seed,
            mesh=mesh,
        ),
        delimiter=Delimiter.of(tokenizer, config.step_delimiter),
        seed=config.seed,
    )


def report(config: ConfigDict, workdir: Path, store: ResultsStore) -> None:
    """Writes summary and timing of what the store holds, and prints the table."""
    records = store.read()
    summary = summarise_collection(
        records, to_json(config), ends=config.rollouts.ends, seed=config.seed
    )
    path = write_summary(workdir, summary)
    timing = write_timing(workdir, records, summary)
    print_collection(summary)
    print(f"time: {timing}, compiling and grading included")
    print(f"summary: {path}\nrecords: {workdir / 'results'}")
