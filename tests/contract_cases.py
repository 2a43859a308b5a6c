"""What `tests.contracts` runs, so that every annotation of a kernel's shapes is executed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sampling.oracle import TINY, tiny_generator
from ttc_jax import (
    Delimiter,
    Execution,
    Plan,
    PromptFormat,
    Recorder,
    Search,
    accuracy_curves,
    assets,
    load_generator,
    load_task,
    load_tokenizer,
    load_verifier,
    make_strategy,
    question_accuracy,
)
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.tasks.countdown import PIECES, Countdown
from ttc_jax.training import sft
from ttc_jax.training.batches import Batches
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation


def searches(
    generator: str = "generator",
    verifier: str = "prm",
    strategy: tuple[str, dict[str, Any]] = ("beam", {"width": 2}),
    execution: Execution = Execution(batch=2),
    **plan: Any,
) -> None:
    """Searches, records and evaluates answers to three questions."""
    fields: dict[str, Any] = {"candidates": 4, **plan}
    path = assets.locate(f"embedded:{generator}")
    model = load_generator(path)
    tokenizer = load_tokenizer(path, model.config.vocab_size)
    prompt = PromptFormat()
    search = Search(
        model,
        load_verifier(f"embedded:{verifier}") if verifier else None,
        Plan(
            make_strategy(strategy[0], **strategy[1]),
            max_new_tokens=48,
            max_step_tokens=24,
            between=tuple(prompt.between(tokenizer)),
            **fields,
        ),
        end_tokens=prompt.ends(tokenizer),
        delimiter=Delimiter.of(tokenizer, "\n"),
        execution=execution,
    )
    task = load_task("countdown", size=3)
    recorder = Recorder(task, tokenizer, prompt, search)
    records = list(recorder.run(recorder.encode(task.questions("test"))))
    assert len(records) == 3
    budget = fields["candidates"] * fields.get("revisions", 1)
    assert accuracy_curves(question_accuracy(records, budgets=[budget]))


def trains(folder: Path) -> None:
    """Trains a small generator on worked solutions, two steps."""
    tokenizer = CharTokenizer(PIECES)
    model = tiny_generator(dataclasses.replace(TINY, vocab_size=tokenizer.vocab_size))
    questions = [q for q in Countdown(size=60).questions("train") if q.level == "3"][:6]
    found = sft.examples(questions, PromptFormat(), tokenizer)
    examples = [row for rows in found.values() for row in rows]
    longest = max(len(example.tokens) for example in examples)
    batches = Batches(examples, lengths=(longest,), tokens=8 * longest, seed=0)
    fit(
        model,
        sft.loss,
        batches,
        batches,
        Optimisation(steps=2, learning_rate=0.01, warmup=1),
        folder,
    )


CASES: dict[str, Callable[[Path], None]] = {
    "beam": lambda _: searches(),
    "lookahead": lambda _: searches(lookahead=1),
    "shared": lambda _: searches(lookahead=1, execution=Execution(batch=2, cache="shared")),
    "lanes": lambda _: searches(execution=Execution(batch=2, lanes=3)),
    "revisions": lambda _: searches(
        "revision", "revision_orm", ("best_of_n", {}), revisions=3, candidates=2
    ),
    "particles": lambda _: searches(strategy=("particles", {"temperature": 1.0})),
    "smc": lambda _: searches(strategy=("smc", {})),
    "diverse_beam": lambda _: searches(strategy=("diverse_beam", {"width": 2})),
    "deepconf": lambda _: searches(strategy=("deepconf", {"keep": 0.5})),
    "greedy": lambda _: searches(
        verifier="", strategy=("best_of_n", {}), sampling=SamplingParams(0.0)
    ),
    "thinking": lambda _: searches(
        strategy=("best_of_n", {}), revisions=2, thinking=Thinking(3, None, (4, 3), (5,), 2, 6)
    ),
    "training": trains,
}
