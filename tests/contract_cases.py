"""What `tests.contracts` runs, so that every annotation of a kernel's shapes is executed."""

from collections.abc import Callable
from typing import Any

from ttc_jax import (
    Delimiter,
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
from ttc_jax.sampling.draw import SamplingParams


def searches(
    generator: str = "generator",
    verifier: str = "prm",
    strategy: tuple[str, dict[str, Any]] = ("beam", {"width": 2}),
    batch: int = 2,
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
            make_strategy(*strategy),
            max_new_tokens=48,
            max_step_tokens=24,
            between=tuple(prompt.between(tokenizer)),
            **fields,
        ),
        end_tokens=prompt.ends(tokenizer),
        delimiter=Delimiter.of(tokenizer, "\n"),
        batch=batch,
    )
    task = load_task({"name": "arithmetic", "size": 3})
    recorder = Recorder(task, tokenizer, prompt, search)
    records = list(recorder.run(recorder.encode(task.questions("test"))))
    assert len(records) == 3
    assert accuracy_curves(question_accuracy(records, budgets=[4]))


CASES: dict[str, Callable[[], None]] = {
    "beam": searches,
    "lookahead": lambda: searches(lookahead=1),
    "lanes": lambda: searches(lanes=3),
    "revisions": lambda: searches(
        "revision", "revision_orm", ("best_of_n", {}), revisions=3, candidates=2
    ),
    "particles": lambda: searches(strategy=("particles", {"temperature": 1.0})),
    "greedy": lambda: searches(
        verifier="", strategy=("best_of_n", {}), drawing=SamplingParams(0.0)
    ),
}
