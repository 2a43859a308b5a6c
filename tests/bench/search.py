"""Beam search beside the loop of public code, in one run on the same weights.

    python -m tests.bench.search --json=FILE [--parts speed growth share] [--shots N] [--quick]

    ours     `Search`: one XLA program; the PRM reads the new tokens of a step, from its cache
    theirs   as search-and-learn and OpenR do it, in torch: Python over strings, `generate` for
             each step (a question's beams are one batch), and the PRM reads every beam anew

Both run M = 4, as many rounds of as long steps, and select alike; the PRM is a linear head on a
model of the generator's size. Each is in float32 or bfloat16, whichever is faster in a short
trial of its own. Theirs takes one question after another, so its time a question is measured on the
first few of those that ours answers: half before ours and half after, so that a machine that slows
down slows both. Compiling is not counted.

Weights are those of the GGUF file that TTC_SMOLLM2_GGUF names (SmolLM2-135M-Instruct), and
questions GSM8K's of the folder that TTC_DATA names, behind four worked examples as in the paper, or
word problems of `tests.bench.models`.
Without the GGUF file weights are random, of the same shape; every 20th token then ends a step, and
in the strings of theirs a character stands for a token.

FILE holds, by N: `speedup` (ratio of seconds a question), `speedup_per_token` (of seconds a
generated token), `ours_seconds`, `theirs_seconds`, and the same of tokens; `seconds`, how ours
grows with N (one question) and with questions (smallest N); `useful_share` of decoded row-steps and
`share_seconds`, with all rows decoded and with fewer lanes; and `settings`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from tests.bench.models import SMOLLM2, TINY, Material, load, prm_on, torch_model
from ttc_jax.models.hub import transformers
from ttc_jax.models.transformer import Transformer
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.request import Request
from ttc_jax.search.search import Search, SearchResult, Work
from ttc_jax.search.state import NONE
from ttc_jax.search.strategies.beam import Beam
from ttc_jax.search.strategies.best_of_n import BestOfN
from ttc_jax.verifiers.prm import ProcessRewardModel

M = 4
PARTS = ("speed", "growth", "share")
DTYPES = ("float32", "bfloat16")
PRM_BATCH = 16  # beams that theirs scores together


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured."""

    candidates: tuple[int, ...] = (16, 64)
    batch: tuple[int, ...] = (8, 2)  # questions that ours searches together, for each N
    theirs: tuple[int, ...] = (2, 1)  # questions that theirs answers, for each N
    rounds: tuple[int, ...] = (8, 4)  # of a search, for each N
    questions: tuple[int, ...] = (8, 8)  # that ours answers, for each N
    step: int = 32  # tokens
    more_candidates: tuple[int, ...] = (16, 64, 256)
    more_questions: tuple[int, ...] = (1, 8, 32)
    more_rounds: int = 2
    share_questions: int = 16
    share_tokens: int = 128  # of the longest answer, where the useful share is measured
    share_lanes: int = 48  # rows decoded at a time there: those that go on, of all questions
    shots: int = 4  # worked examples before each question (paper, appendix on prompts)
    prompt: int = 560  # tokens, where prompts are random


QUICK = Settings(
    candidates=(4,),
    batch=(2,),
    theirs=(2,),
    rounds=(2,),
    questions=(2,),
    step=4,
    more_candidates=(4,),
    more_questions=(1, 2, 4),
    more_rounds=2,
    share_questions=4,
    share_tokens=12,
    share_lanes=4,
    shots=0,
    prompt=20,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="a tiny model: mostly compiling")
    parser.add_argument("--shots", type=int, help="worked examples before each question (4)")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="what to measure; the rest of FILE stays as it is",
    )
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else Settings()
    if options.shots is not None:
        settings = dataclasses.replace(settings, shots=options.shots)
    count = max(*settings.questions, *settings.more_questions, settings.share_questions)
    shape = TINY if options.quick else SMOLLM2
    material = load(count, shape, settings.prompt, settings.shots, real=not options.quick)
    print(material.what, flush=True)
    ours = Ours(material, settings)
    measure = {
        "speed": lambda: compare(ours, Theirs(material, settings), settings),
        "growth": lambda: {"seconds": grow(ours, settings)},
        "share": lambda: share(ours.material, settings),
    }
    file: Path | None = options.json
    figures = json.loads(file.read_text()) if file and file.exists() else {}
    figures["settings"] = dataclasses.asdict(settings) | {"weights": material.what, "M": M}
    for part in options.parts:
        figures |= measure[part]()
        if file:
            file.write_text(json.dumps(figures, indent=2) + "\n")


class Ours:
    """`Search`, compiled once for each N and B."""

    def __init__(self, material: Material, settings: Settings):
        self.settings = settings
        self.prompts = [material.text.encode(prompt) for prompt in material.prompts]
        self.compile_seconds: dict[str, float] = {}
        self.trials = {}
        for self.dtype in DTYPES:
            self.material = material.cast(self.dtype)
            self.prm = prm_on(self.material.generator)
            self.trials[self.dtype] = self(settings.candidates[0], 1, 2, 1)[0]
            self.search.cache_clear()
        self.dtype = min(self.trials, key=self.trials.__getitem__)
        self.material = material.cast(self.dtype)
        self.prm = prm_on(self.material.generator)
        spans = ", ".join(f"{name} {span:.2f} s" for name, span in self.trials.items())
        print(f"ours: {spans} for two rounds of one question: {self.dtype} it is", flush=True)

    @functools.cache  # noqa: B019, lives as long as the process
    def search(self, candidates: int, batch: int, rounds: int) -> Search:
        step = self.settings.step
        plan = Plan(Beam(M), candidates, rounds * step, step, rounds)
        search = new_search(self.material, self.prm, plan, batch)
        name = f"N={candidates} B={batch} R={rounds}"
        self.compile_seconds[name] = compile_search(search, self.prompts[0])
        return search

    def __call__(
        self, candidates: int, batch: int, rounds: int, questions: int
    ) -> tuple[float, int]:
        """Seconds and generated tokens of so many questions."""
        seconds, outcomes = timed(self.search(candidates, batch, rounds), self.prompts[:questions])
        return seconds, sum(outcome.ledger.decode_tokens for outcome in outcomes)


def new_search(
    material: Material, prm: ProcessRewardModel, plan: Plan, batch: int, lanes: int = 0
) -> Search:
    return Search(
        material.generator,
        prm,
        plan,
        end_tokens=material.ends,
        delimiter=material.delimiter,
        execution=Execution(batch, lanes),
    )


def compile_search(search: Search, prompt: list[int]) -> float:
    """Seconds that it takes to compile; no slot holds a question, so nothing is searched."""
    began = time.perf_counter()
    engine, request = search.engine, Request(prompt, prompt, 0)
    buckets = engine.buckets(request)
    admitted = engine.admit(buckets, [request])
    state = engine.insert(engine.empty(buckets), admitted, [NONE])
    state, *_ = engine.segment(state, 0)
    engine.harvest(state, [0])
    return time.perf_counter() - began


def timed(search: Search, prompts: list[list[int]]) -> tuple[float, list[SearchResult]]:
    began = time.perf_counter()
    outcomes = [outcome for _, outcome in search.run(prompts, range(len(prompts)))]
    seconds = time.perf_counter() - began
    assert search.compilations == 1
    return seconds, outcomes


@dataclasses.dataclass
class Candidate:
    """A beam of theirs."""

    text: str = ""
    tokens: int = 0
    done: bool = False


class Theirs:
    """Beam search over strings: each step is generated, and then read by the PRM, from scratch."""

    def __init__(self, material: Material, settings: Settings):
        import torch

        self.torch, self.material, self.settings = torch, material, settings
        self.written = 0  # tokens, since it was last set to 0
        torch.manual_seed(0)
        models = {x: torch_model(material.generator, x) for x in DTYPES}
        self.trials = {}
        for name, model in models.items():
            self._use(model)
            self.seconds(material.prompts[:1], M, 1)  # warms caches
            self.trials[name] = self.seconds(material.prompts[:1], settings.candidates[0], 1)
        self.dtype = min(self.trials, key=self.trials.__getitem__)
        self._use(models[self.dtype])
        spans = ", ".join(f"{name} {span:.2f} s" for name, span in self.trials.items())
        print(f"theirs: {spans} for one round of one question: {self.dtype} it is", flush=True)

    def _use(self, model: Any) -> None:
        self.model = model
        self.head = self.torch.nn.Linear(model.config.hidden_size, 1).to(model.dtype)

    def seconds(self, prompts: Sequence[str], candidates: int, rounds: int) -> float:
        began = time.perf_counter()
        for prompt in prompts:
            self.answer(prompt, candidates, rounds)
        return time.perf_counter() - began

    def answer(self, prompt: str, candidates: int, rounds: int) -> list[str]:
        """N answers to one question."""
        beams = [Candidate() for _ in range(candidates)]
        with self.torch.inference_mode():
            for i in range(rounds):
                active = [beam for beam in beams if not beam.done]
                if not active:
                    break
                self._write(prompt, active, rounds * self.settings.step)
                scores = self._score([prompt + beam.text for beam in active])
                if i + 1 == rounds:
                    break
                ranked = sorted(
                    (
                        (-score, n)
                        for n, (beam, score) in enumerate(zip(active, scores, strict=True))
                        if not beam.done
                    ),
                )
                best = [active[n] for _, n in ranked]
                beams = [beam for beam in beams if beam.done]  # keep their slots
                beams += [dataclasses.replace(best[n // M]) for n in range(len(best))]
        return [beam.text for beam in beams]

    def _write(self, prompt: str, beams: list[Candidate], most: int) -> None:
        """One step of every beam, whose answer may have `most` tokens."""
        torch = self.torch
        rows = [self.material.text.encode(prompt + beam.text) for beam in beams]
        longest = max(map(len, rows))
        given = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        stop = StepEnd(self.material, longest, torch.tensor([most - beam.tokens for beam in beams]))
        out = self.model.generate(
            given,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=self.settings.step,
            stopping_criteria=transformers().StoppingCriteriaList([stop]),
            eos_token_id=list(self.material.ends),
            pad_token_id=0,
        )
        for beam, row, length in zip(beams, out.tolist(), stop.lengths.tolist(), strict=True):
            new = row[longest : longest + length]
            beam.text += self.material.text.decode(new)
            beam.tokens += length
            beam.done = new[-1] in self.material.ends or beam.tokens >= most
            self.written += length

    def _score(self, texts: list[str]) -> list[float]:
        """The PRM on whole answers, at their last tokens.

        Padding lies on the right, where no real token looks, so it needs no mask; that is faster.
        """
        torch, scores = self.torch, []
        for start in range(0, len(texts), PRM_BATCH):
            rows = [self.material.text.encode(text) for text in texts[start : start + PRM_BATCH]]
            longest = max(map(len, rows))
            padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            hidden = self.model.model(padded, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
            scores += torch.sigmoid(self.head(last).float())[:, 0].tolist()
        return scores


class StepEnd:
    """Stops a row at a delimiter that is not behind another one, at an end, or at its limit."""

    def __init__(self, material: Material, given: int, limits: Any):
        import torch

        self.torch, self.delimiter = torch, material.delimiter
        self.ends = torch.zeros(len(self.delimiter.kinds), dtype=torch.bool)
        self.ends[list(material.ends)] = True
        self.given, self.limits = given, limits
        self.lengths = torch.zeros_like(limits)  # tokens up to the stop
        self.stopped = torch.zeros_like(limits, dtype=torch.bool)

    def __call__(self, ids: Any, scores: Any, **kwargs: Any) -> Any:
        del scores, kwargs
        new, last = ids.shape[1] - self.given, ids[:, -1]
        self.lengths[~self.stopped] = new
        _, ends = self.delimiter.found(ids[:, -2 * self.delimiter.length :].numpy())
        delimiter = self.torch.from_numpy(ends[:, -1])
        self.stopped |= delimiter | self.ends[last] | (new >= self.limits)
        return self.stopped


def compare(ours: Ours, theirs: Theirs, settings: Settings) -> dict[str, Any]:
    """Seconds and tokens a question of both, at every N."""
    names = ("speedup", "speedup_per_token", "ours_seconds", "theirs_seconds")
    figures: dict[str, Any] = {x: {} for x in (*names, "ours_tokens", "theirs_tokens")}
    parts = (settings.candidates, settings.batch, settings.rounds, settings.questions)
    for n, batch, rounds, count, few in zip(*parts, settings.theirs, strict=True):
        prompts = ours.material.prompts[:few]
        half = (len(prompts) + 1) // 2
        ours.search(n, batch, rounds)  # compiles
        theirs.written = 0
        before = theirs.seconds(prompts[:half], n, rounds)
        mine, tokens = ours(n, batch, rounds, count)
        other = before + theirs.seconds(prompts[half:], n, rounds)
        row = {
            "speedup": (other / len(prompts)) / (mine / count),
            "speedup_per_token": (other / theirs.written) / (mine / tokens),
            "ours_seconds": mine / count,
            "theirs_seconds": other / len(prompts),
            "ours_tokens": tokens / count,
            "theirs_tokens": theirs.written / len(prompts),
        }
        for name, value in row.items():
            figures[name][str(n)] = value
        print(
            f"N={n:<3} {count} questions, {rounds} rounds, batch of {batch}: "
            f"ours {row['ours_seconds']:.2f} s and {row['ours_tokens']:.0f} tokens a question, "
            f"theirs {row['theirs_seconds']:.2f} s and {row['theirs_tokens']:.0f}: "
            f"speed-up {row['speedup']:.2f}, per token {row['speedup_per_token']:.2f}",
            flush=True,
        )
    return figures | {
        "ours_dtype": ours.dtype,
        "ours_trial_seconds": ours.trials,
        "theirs_dtype": theirs.dtype,
        "theirs_trial_seconds": theirs.trials,
        "compile_seconds": ours.compile_seconds,
    }


def grow(ours: Ours, settings: Settings) -> dict[str, Any]:
    """Our seconds a question by N, for one question, and by questions, at the smallest N."""
    smallest, batch, rounds = settings.candidates[0], settings.batch[0], settings.more_rounds
    by_n: dict[str, float] = {}
    for n in settings.more_candidates:
        ours.search(n, 1, rounds)  # compiles
        by_n[str(n)], tokens = ours(n, 1, rounds, 1)
        print(f"N={n:<3} 1 question: {by_n[str(n)]:.2f} s, {tokens} tokens", flush=True)
    by_questions = {"1": by_n[str(smallest)]}
    ours.search(smallest, batch, rounds)  # compiles
    for questions in settings.more_questions[1:]:
        found = ours(smallest, batch, rounds, questions)[0] / questions
        by_questions[str(questions)] = found
        print(f"N={smallest} {questions:2} questions: {found:.2f} s a question", flush=True)
    return {"by_n": by_n, "by_questions": by_questions}


def share(material: Material, settings: Settings) -> dict[str, Any]:
    """Of the decoded row-steps, those of rows that went on, and the seconds that all took.

    With all rows decoded and with `share_lanes` of them, of a search in steps and of whole answers.
    It is the generator's row-steps that count, so the PRM is a tiny one, of random scores.
    """
    small = dataclasses.replace(TINY, vocab_size=material.generator.config.vocab_size)
    context = material.generator.config.context
    prm = prm_on(Transformer(dataclasses.replace(small, context=context), rngs=nnx.Rngs(3)))
    tokens, N, batch = settings.share_tokens, settings.candidates[0], settings.batch[0]
    prompts = [material.text.encode(x) for x in material.prompts[: settings.share_questions]]
    shares: dict[str, float] = {}
    taken: dict[str, float] = {}
    for strategy in (Beam(M), BestOfN()):
        plan = Plan(strategy, N, tokens, settings.step)
        for rows, lanes in {"all rows": 0, "lanes": settings.share_lanes}.items():
            search = new_search(material, prm, plan, batch, lanes)
            compile_search(search, prompts[0])
            for refill in (True, False):
                search.execution = dataclasses.replace(search.execution, refill=refill)
                search.work = Work()
                name = f"{type(strategy).__name__}, {rows}{'' if refill else ', no refill'}"
                taken[name], _ = timed(search, prompts)
                shares[name] = search.work.useful_share
                print(f"{name}: {taken[name]:.0f} s, useful {shares[name]:.3f}", flush=True)
    return {"useful_share": shares, "share_seconds": taken}


if __name__ == "__main__":
    main()
