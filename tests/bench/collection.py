"""Rollouts from forked caches beside prefixes that are read again, in one run on the same weights.

    python -m tests.bench.collection --json=FILE [--rounds 3] [--shots N] [--questions N] [--quick]

    ours      `Rollouts`: rows fork from the caches that the sampled answers left behind
    shared    each prefix is a prompt of its own, read once for its K ends (`Sampler`)
    repeated  each prefix is read for every one of its ends, as `generate` of transformers does

All roll out the same prefixes, those of a few answers to each question, with as many rows decoded
together. Contenders take turns, round by round; figures are medians over the rounds, in generated
tokens a second. Compiling is not counted, nor is the sampling of the answers, which is the same for
all.

Weights and questions are those of `tests.bench.search`. FILE holds `tokens_per_second`, `tokens`
and `seconds` by contender, `ratios` of ours to the others, `prefixes` and their mean length,
`useful_share` of our decoded row-steps, and `settings`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.models import SMOLLM2, TINY, Material, load
from ttc_jax.sampling.rollouts import Choose, Prefix, Rollouts
from ttc_jax.sampling.sampler import Sampler, bucket
from ttc_jax.verifiers.steps import step_ends


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured."""

    questions: int = 8
    samples: int = 4  # answers to each, whose prefixes are rolled out
    ends: int = 4  # K
    tokens: int = 64  # of the longest answer
    rows: int = 32  # decoded together, over all questions
    rows_each: int = 8  # of a question, in ours
    shots: int = 4  # worked examples before each question (paper, appendix on prompts)
    prompt: int = 100  # tokens, where prompts are random


QUICK = Settings(questions=2, samples=2, ends=2, tokens=24, rows=8, rows_each=4, shots=0, prompt=20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over so many")
    parser.add_argument("--shots", type=int, help="worked examples before each question (4)")
    parser.add_argument("--questions", type=int, help="whose answers are rolled out (8)")
    parser.add_argument("--quick", action="store_true", help="a tiny model: mostly compiling")
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else Settings()
    given = {name: getattr(options, name) for name in ("shots", "questions")}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = dataclasses.replace(settings, **changes)
    shape = TINY if options.quick else SMOLLM2
    material = load(
        settings.questions, shape, settings.prompt, settings.shots, real=not options.quick
    )
    print(material.what, flush=True)
    figures = measure(material, settings, options.rounds)
    figures["settings"] = dataclasses.asdict(settings) | {"weights": material.what}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(material: Material, settings: Settings, rounds: int) -> dict[str, Any]:
    """The figures of FILE, but for the settings."""
    ours = Ours(material, settings)
    text = [
        (ours.prompts[i] + ours.answers[i][place.candidate][: place.length], place.length)
        for i, places in enumerate(ours.prefixes)
        for place in places
    ]
    contenders: dict[str, Callable[[], int]] = {
        "ours": ours,
        "shared": Again(material, settings, text, settings.ends),
        "repeated": Again(material, settings, text * settings.ends, 1),
    }
    tokens: dict[str, list[int]] = {name: [] for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            began = time.perf_counter()
            tokens[name].append(call())
            seconds[name].append(time.perf_counter() - began)
    rates = {
        name: statistics.median(n / span for n, span in zip(tokens[name], spans, strict=True))
        for name, spans in seconds.items()
    }
    ratios = {name: rates["ours"] / rate for name, rate in rates.items() if name != "ours"}
    mean = statistics.mean(length for _, length in text)
    print(f"{len(text)} prefixes of {mean:.0f} tokens on average, K={settings.ends}")
    for name, rate in rates.items():
        faster = f"  ours is {ratios[name]:.2f} times as fast" if name in ratios else ""
        print(f"{name:9} {rate:8.1f} tokens/s  {tokens[name][0]} tokens{faster}", flush=True)
    return {
        "tokens_per_second": rates,
        "ratios": ratios,
        "tokens": tokens,
        "seconds": seconds,
        "prefixes": len(text),
        "prefix_tokens": mean,
        "useful_share": ours.sampler.useful_steps / ours.sampler.row_steps,
    }


class Ours:
    """Answers that were sampled, and their rollouts; a call gives the number of tokens drawn."""

    def __init__(self, material: Material, settings: Settings):
        self.prompts = [material.text.encode(prompt) for prompt in material.prompts]
        self.sampler = Rollouts(
            material.generator,
            ends=settings.ends,
            slots=settings.rows // settings.rows_each,
            rows=settings.rows_each,
            end_tokens=material.ends,
            candidates=settings.samples,
            max_new_tokens=settings.tokens,
            batch=settings.questions,
        )
        written = self.sampler.write(self.prompts, range(settings.questions))
        # The time of a call is the rollouts' alone.
        self.sampler.write = lambda prompts, numbers, limits=None, thinking=None: written
        drawn = written[0]
        ends = step_ends(drawn.tokens, drawn.lengths, drawn.finished, material.delimiter)
        self.answers = drawn.tokens.tolist()
        self.prefixes = [different(*both) for both in zip(self.answers, ends, strict=True)]
        # Compiles: with one token to go there is next to nothing to roll out.
        self.roll(lambda index, _: [Prefix(0, settings.tokens - 1)] if index == 0 else [])
        self.sampler.useful_steps = self.sampler.row_steps = 0

    def roll(self, choose: Choose) -> int:
        before = self.sampler.useful_steps
        for _ in self.sampler.run(self.prompts, range(len(self.prompts)), choose):
            pass
        return self.sampler.useful_steps - before

    def __call__(self) -> int:
        return self.roll(lambda index, _: self.prefixes[index])


def different(answers: list[list[int]], ends: np.ndarray) -> list[Prefix]:
    """The prefixes at all steps' ends but the last, each once."""
    found = {}
    for n, (answer, row) in enumerate(zip(answers, ends, strict=True)):
        for end in (np.flatnonzero(row)[:-1] + 1).tolist():
            found.setdefault(tuple(answer[:end]), Prefix(n, end))
    return list(found.values())


class Again:
    """Prefixes as prompts of their own, those of like length together."""

    def __init__(
        self, material: Material, settings: Settings, text: list[tuple[list[int], int]], ends: int
    ):
        self.text = sorted(text, key=lambda x: len(x[0]))
        self.sampler = Sampler(
            material.generator,
            end_tokens=material.ends,
            candidates=ends,
            max_new_tokens=settings.tokens,
            batch=settings.rows // ends,
        )
        for prompt, _ in {
            bucket(len(batch[-1][0])): batch[-1] for batch in self.batches()
        }.values():
            self.sampler.sample([prompt], [0], [1])  # compiles

    def batches(self) -> list[list[tuple[list[int], int]]]:
        size = self.sampler.batch
        return [self.text[i : i + size] for i in range(0, len(self.text), size)]

    def __call__(self) -> int:
        tokens = 0
        for first, batch in enumerate(self.batches()):
            prompts = [prompt for prompt, _ in batch]
            numbers = range(first * self.sampler.batch, first * self.sampler.batch + len(batch))
            limits = [self.sampler.max_new_tokens - length for _, length in batch]
            tokens += int(self.sampler.sample(prompts, numbers, limits).lengths.sum())
        return tokens


if __name__ == "__main__":
    main()
