"""Samples N answers to every question, scores and grades them, and reports accuracy against N.

Records are appended to WORKDIR/results/ as they come, so that a killed run goes on where it was. At
the end the workdir holds summary.json, accuracy.png/.svg/.csv and timing.json.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from ttc_jax import assets
from ttc_jax.config import at_least, claim_workdir, one_of, to_json
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.report.figures import write_accuracy
from ttc_jax.report.tables import print_summary
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import summarise, write_json, write_summary
from ttc_jax.sampling.draw import Drawing
from ttc_jax.sampling.sampler import Sampler
from ttc_jax.search.aggregate import AGGREGATIONS
from ttc_jax.search.best_of_n import BestOfN
from ttc_jax.tasks import load_task
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Task
from ttc_jax.verifiers.prm import load_prm
from ttc_jax.verifiers.scoring import StepScorer


def main(config: ConfigDict, workdir: Path) -> None:
    """Runs best-of-N over the questions that the store does not hold yet, then reports."""
    at_least(config, 1, "sampling.n", "sampling.max_new_tokens", "sampling.questions_per_batch")
    at_least(config, 1, "selection.subsets")
    at_least(config, 0, "limit")
    one_of(config, "selection.aggregation", tuple(AGGREGATIONS))
    one_of(config, "generator.dtype", ("float32", "bfloat16"))
    task = load_task(config.task)
    questions = task.questions(config.split)[: config.limit or None]
    store = ResultsStore(workdir)
    done = {question for question, _, _ in store.done()}
    todo = [question for question in questions if question.id not in done]
    search = build(config, task) if todo else None
    batches = list(search.batches(todo)) if search else []
    # Not before: a mistake found so far leaves the workdir free for the mended config.
    claim_workdir(workdir, config)
    if search:
        with tqdm(
            total=len(questions), initial=len(done), desc="best-of-N", unit="question"
        ) as bar:
            for batch in batches:
                store.append(search.run(batch))
                bar.update(len(batch))
    report(config, workdir, store)


def build(config: ConfigDict, task: Task) -> BestOfN:
    """Best-of-N with the models that a config names."""
    path = assets.locate(config.generator.path)
    generator = load_generator(path, dtype=config.generator.dtype)
    tokenizer = load_tokenizer(path, generator.config.vocab_size)
    sampling = config.sampling.to_dict()
    shapes = {
        "candidates": sampling["n"],
        "max_new_tokens": sampling["max_new_tokens"],
        "batch": sampling["questions_per_batch"],
    }
    drawing = Drawing(**{name: sampling[name] for name in ("temperature", "top_k", "top_p")})
    sampler = Sampler(
        generator, end_tokens=tokenizer.eos_ids, drawing=drawing, seed=config.seed, **shapes
    )
    verifier = load_prm(assets.locate(config.verifier.path)) if config.verifier.path else None
    scorer = None
    if verifier is not None:
        delimiters = tokenizer.containing(config.step_delimiter)
        scorer = StepScorer(verifier, delimiters=delimiters, **shapes)
    return BestOfN(
        task=task,
        tokenizer=tokenizer,
        prompt=PromptFormat(**config.prompt),
        generator=generator.config,
        sampler=sampler,
        verifier=verifier.config if verifier is not None else None,
        scorer=scorer,
        seed=config.seed,
    )


def report(config: ConfigDict, workdir: Path, store: ResultsStore) -> None:
    """Writes summary, timing and figures of what the store holds, and prints the table."""
    records = store.read()
    summary = summarise(
        records,
        to_json(config),
        aggregation=config.selection.aggregation,
        subsets=config.selection.subsets,
        seed=config.seed,
    )
    path = write_summary(workdir, summary)
    seconds = sum(record.seconds for record in records)
    rate = summary["ledger"]["decode_tokens"] / seconds
    write_json(workdir / "timing.json", {"seconds": seconds, "tokens_per_second": rate})
    write_accuracy(summary, workdir)
    print_summary(summary)
    print(f"time: {seconds:,.0f} s, {rate:,.0f} tokens/s, compiling and scoring included")
    print(f"summary: {path}\nreport: {workdir / 'accuracy.png'}")
