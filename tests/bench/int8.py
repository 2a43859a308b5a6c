"""What int8 costs in accuracy and saves in bytes, beside bfloat16 and float32.

    python -m tests.bench.int8 [--json=FILE] [--questions=200]
        [--model=SmolLM2-135M-Instruct.Q4_1.gguf --data=gsm8k_test.jsonl --texts=30]

The embedded generator and PRM answer test questions of Countdown, best-of-16; accuracies
have the difference to float32 with its 95 % interval, paired by question. Both this generator and
that of --model also read worked solutions, token by token behind a cache that holds the question,
and write greedy answers:

    next token    share of the solutions' tokens at which the likeliest next one is float32's
    KL            of the next token's distribution to float32's, nats a token
    perplexity    of the solutions
    greedy        share of the answers that are float32's to the end, and of their tokens before
                  the first that is not

Bytes are those of weights (generator, and PRM where there is one), and of a token in the caches.
Products are computed in float32, but for bfloat16. On a CPU int8 is no faster: it has to be turned
into floats first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ttc_jax import assets
from ttc_jax.config import load_config
from ttc_jax.experiments import build
from ttc_jax.experiments.sections import strategy_of, task_of
from ttc_jax.models import parameters
from ttc_jax.models.cache import KVCache
from ttc_jax.models.shapes import read_shape
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.report.console import _print, _table
from ttc_jax.results.curves import bootstrap, question_accuracy
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.sampler import Sampler, bucket, pad_prompts
from ttc_jax.tasks import load_task
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tpu.program import cache_bytes

KEPT: dict[str, dict[str, str]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "int8 weights": {"weights": "int8"},
    "int8 weights, cache": {"weights": "int8", "cache": "int8"},
}
N = 16
RULES = {"pass": 1, "majority": N, "best_of_n_weighted": N}  # and of how many candidates
NAMES = {"pass": "pass@1", "majority": "majority", "best_of_n_weighted": "weighted"}
CONFIG = Path(__file__).parents[2] / "configs" / "countdown.py"


@dataclasses.dataclass(frozen=True)
class Texts:
    """Prompts and worked solutions of a task, as tokens."""

    prompts: list[list[int]]
    solutions: list[list[int]]
    ends: tuple[int, ...]
    batch: int  # prompts that are answered together
    new_tokens: int  # of greedy answers


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables and writes the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--questions", type=int, default=200, help="of Countdown; 0: leave it out")
    parser.add_argument("--model", type=Path, help="a generator of --data's questions")
    parser.add_argument("--data", type=Path, help="GSM8K's test questions, JSON lines")
    parser.add_argument("--texts", type=int, default=30, help="questions of --data")
    parser.add_argument("--new_tokens", type=int, default=64, help="of --model's greedy answers")
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {}

    def add(name: str, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        figures[name] = {}
        for kept, row in rows:
            figures[name][kept] = row
            if options.json:  # now, so that an interrupted run keeps what it has
                options.json.write_text(json.dumps(figures, indent=2) + "\n")
        show(name, figures[name])

    if options.questions:
        path = assets.locate("embedded:generator")
        add("embedded:generator", agreement(path, embedded_texts(path, options.questions)))
        add("search", searches(options.questions))
    if options.model:
        texts = word_problems(options.model, options.data, options.texts, options.new_tokens)
        add(options.model.name, agreement(options.model, texts))


def searches(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Best-of-N of the embedded task, however the models are kept."""
    exact: dict[str, np.ndarray] = {}
    for name, kept in KEPT.items():
        flags = [f"--config.{model}.{field}={value}" for model in ("generator", "verifier")
                 for field, value in kept.items()]  # fmt: skip
        config = load_config(f"{CONFIG}:best_of_n", [*flags, f"--config.sampling.n={N}"])
        task = task_of(config.task)
        strategy = strategy_of(config.search)
        recorder = build.recorder(config, task, strategy)
        prompted = recorder.encode(task.questions(config.split)[:count])
        accuracy = question_accuracy(list(recorder.run(prompted)), tuple(RULES), (1, N))
        search = recorder.search
        state = search.state(bucket(max(len(one.tokens) for one in prompted)))
        row: dict[str, Any] = {
            "weight_bytes": sum(x.nbytes for x in jax.tree.leaves(search.engine.parameters)),
            "cache_bytes": cache_bytes(state, suffixes_only=True)
            / (search.execution.batch * N * state.decode.cache.suffix[0].values.shape[3]),
        }
        for rule, n in RULES.items():
            values = accuracy.values[rule][:, accuracy.budgets.index(n)]
            exact.setdefault(rule, values)
            (mean,) = bootstrap(values[:, None])
            (difference,) = bootstrap((values - exact[rule])[:, None])
            row[rule] = mean.rounded() | {"difference": difference.rounded()}
        yield name, row


def embedded_texts(path: str, count: int) -> Texts:
    """Of Countdown."""
    tokenizer = load_tokenizer(path, read_shape(path).vocab_size)
    questions = load_task("countdown").questions("test")[:count]
    return Texts(
        [PromptFormat().encode(question.text, tokenizer) for question in questions],
        [[*tokenizer.encode(question.solution), tokenizer.eos_ids[0]] for question in questions],
        tokenizer.eos_ids,
        batch=50,
        new_tokens=60,
    )


def word_problems(model: Path, data: Path, count: int, new_tokens: int) -> Texts:
    """Of GSM8K, as turns of a chat: short questions with short solutions, which share a shape."""
    tokenizer = load_tokenizer(model, read_shape(str(model)).vocab_size)
    prompt = PromptFormat(**load_config(f"{CONFIG.with_name('gsm8k.py')}:smollm2").prompt)
    prompts, solutions = [], []
    for question in load_task("gsm8k", path=str(data)).questions("test"):
        tokens, solution = prompt.encode(question.text, tokenizer), question.solution
        solution = tokenizer.encode(solution)
        if len(tokens) <= 193 and len(solution) <= 128 and len(prompts) < count:
            prompts.append(tokens)
            solutions.append(solution)
    return Texts(prompts, solutions, tokenizer.eos_ids, batch=10, new_tokens=new_tokens)


def agreement(path: str | Path, texts: Texts) -> Iterator[tuple[str, dict[str, Any]]]:
    """How far a generator is from itself in float32."""
    models = {name: load_generator(path, **dict[str, Any](kept)) for name, kept in KEPT.items()}
    read = read_solutions(models, texts)
    exact: list[list[int]] = []
    for name, model in models.items():
        answers, cache = write_answers(model, texts)
        exact = exact or answers
        shared = [prefix(*pair) for pair in zip(answers, exact, strict=True)]
        equal = [one == other for one, other in zip(answers, exact, strict=True)]
        yield (
            name,
            {
                "weight_bytes": sum(x.nbytes for x in parameters.named(model).values()),
                "cache_bytes": cache,
                **read[name],
                "greedy_equal": sum(equal) / len(equal),
                "greedy_prefix": sum(shared) / sum(map(len, exact)),
            },
        )


def read_solutions(models: dict[str, Transformer], texts: Texts) -> dict[str, dict[str, float]]:
    """What each makes of the solutions' tokens."""
    width = max(map(len, texts.solutions))

    @jax.jit
    def read(model: Transformer, prompt: jax.Array, length: jax.Array, tokens: jax.Array):
        _, cache = model.prefill(prompt[:, :-1])
        cache = KVCache.fork(cache, length - 1, 1, width)
        hidden, _ = model.extend(tokens[None, None], cache)
        return jax.nn.log_softmax(model.logits(hidden[0, 0]))

    padded, lengths = pad_prompts(texts.prompts, len(texts.prompts))
    totals = {name: dict.fromkeys(("nll", "kl", "next"), 0.0) for name in models}
    for i, solution in enumerate(texts.solutions):
        fed = np.zeros(width, np.int32)
        fed[: len(solution)] = [texts.prompts[i][-1], *solution[:-1]]
        exact: np.ndarray | None = None
        for name, model in models.items():
            found = np.asarray(read(model, padded[i : i + 1], lengths[i : i + 1], fed))
            found = found[: len(solution)]
            exact = found if exact is None else exact
            total = totals[name]
            total["nll"] -= float(found[np.arange(len(solution)), solution].sum())
            total["kl"] += float((np.exp(exact) * (exact - found)).sum())
            total["next"] += float((exact.argmax(-1) == found.argmax(-1)).sum())
    count = sum(map(len, texts.solutions))
    return {
        name: {
            "next_token": total["next"] / count,
            "kl": total["kl"] / count,
            "perplexity": float(np.exp(total["nll"] / count)),
        }
        for name, total in totals.items()
    }


def write_answers(model: Transformer, texts: Texts) -> tuple[list[list[int]], float]:
    """Greedy answers, and the bytes of a token in the cache."""
    sampler = Sampler(
        model,
        end_tokens=texts.ends,
        candidates=1,
        max_new_tokens=texts.new_tokens,
        batch=texts.batch,
        sampling=SamplingParams(temperature=0.0),
    )
    answers = []
    for first in range(0, len(texts.prompts), texts.batch):
        prompts = texts.prompts[first : first + texts.batch]
        found = sampler.sample(prompts, range(len(prompts)))
        for tokens, length in zip(found.tokens[:, 0], found.lengths[:, 0], strict=True):
            answers.append(tokens[:length].tolist())
    state = sampler.state(bucket(max(map(len, texts.prompts))))
    slots = texts.batch * state.cache.suffix[0].values.shape[3]
    return answers, cache_bytes(state, suffixes_only=True) / slots


def prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def show(name: str, rows: dict[str, dict[str, Any]]) -> None:
    """Prints a table."""
    table = _table(
        f"{name}: accuracy in %, and its difference to float32" if name == "search" else name
    )
    table.add_column("")
    for title in ("weights, KB", "cache, B a token"):
        table.add_column(title, justify="right")
    kinds = {rule: NAMES[rule] for rule in RULES} if name == "search" else {
        "next_token": "next token, %", "kl": "KL, nats", "perplexity": "perplexity",
        "greedy_equal": "greedy, % equal", "greedy_prefix": "greedy, % of tokens",
    }  # fmt: skip
    for title in kinds.values():
        table.add_column(title, justify="right")
    for kept, row in rows.items():
        cells = [f"{row['weight_bytes'] / 1000:,.0f}", f"{row['cache_bytes']:,.0f}"]
        for kind in kinds:
            value = row[kind]
            if isinstance(value, dict):
                change = {x: f"{100 * y:+.1f}" for x, y in value["difference"].items()}
                text = f"{100 * value['mean']:.1f}"
                if kept != "float32":
                    text += f" ({change['mean']}; {change['low']} to {change['high']})"
                cells.append(text)
            elif kind in ("kl", "perplexity"):
                cells.append(f"{value:.4g}")
            else:
                cells.append(f"{100 * value:.1f}")
        table.add_row(kept, *cells)
    _print([table], [], None)


if __name__ == "__main__":
    main()
