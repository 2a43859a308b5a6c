"""GSM8K with public generators: answers that vote, or a study with a verifier of its own.

    ttc run --config=configs/gsm8k.py:smollm2 --workdir=runs/gsm8k-smollm2

downloads SmolLM2-135M-Instruct and the data set. For files at hand add

    --config.generator.path=/path/to/folder-or-file.gguf --config.task.path=/path/to/test.jsonl

The study of Qwen2.5-Coder-0.5B-Instruct samples answers to training questions, teaches a probe of
the generator's hidden states which of them are right, searches with it on test questions at up to
16 generations, fits the compute-optimal policy, and reports:

    ttc run --config=configs/gsm8k.py:qwen2_5_coder --workdir=runs/gsm8k

It takes hours on a CPU, and goes on where it was when the command is given again. Local files are
named once for all stages, and both splits:

    --config.generator.path=/path/to/model.gguf --config.task.path=/path/to/test.jsonl
    --config.task.train_path=/path/to/train.jsonl
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.config import load_config

VARIANTS = {
    "smollm2": ("run", "SmolLM2-135M-Instruct, 16 answers to the first 100 test questions"),
    "qwen2_5": ("run", "Qwen2.5-0.5B-Instruct, the same questions"),
    "qwen2_5_coder": ("run", "Qwen2.5-Coder-0.5B-Instruct, probe, search, policy: in hours"),
}


def get_config(variant: str = "smollm2") -> ConfigDict:
    return _study() if variant == "qwen2_5_coder" else _answers(variant)


def _answers(variant: str) -> ConfigDict:
    """As MATH is asked, in fewer tokens."""
    config = load_config(f"{Path(__file__).with_name('math.py')}:{variant}")
    config.task.name = "gsm8k"
    config.sampling.max_new_tokens = 256
    config.prompt.template = config.prompt.template.replace("final answer", "final number")
    config.prompt.shots = config.prompt.shots[:3]  # those that are no equations
    return config


def _study() -> ConfigDict:
    """Test questions are seen by the sweep alone."""
    answers = _answers("qwen2_5_coder")
    config = ConfigDict({"job": "run"})
    # Said once, and meant by all stages.
    config.generator, config.task = answers.generator, answers.task
    config.generator.dtype = "bfloat16"  # as published
    config.limit = 150  # test questions
    config.stages = ("samples", "probe", "search", "policy", "report")
    config.stage = {
        "samples": _samples(answers),
        "probe": _probe(answers),
        "search": _search(answers),
        "policy": _policy(),
        "report": {
            "job": "report",
            "title": "Test-time compute with Qwen2.5-Coder-0.5B-Instruct on GSM8K",
            "data": {
                "search": "stage:search",
                "policy": "stage:policy",
                "chains": "",
                "ratios": "",
                "verifiers": "",
            },
            "own": "",  # a task of one's own that the search's summary may name
            "selection": _SELECTION,
        },
    }
    for stage in ("samples", "search"):
        config.stage[stage].generator = config.generator
    for stage in ("samples", "probe", "search"):
        config.stage[stage].task = config.task
    for field in ("path", "tokenizer", "dtype"):
        config.stage["probe"].start[field] = config.generator.get_ref(field)
    config.stage["search"].limit = config.get_ref("limit")
    return config


_SELECTION = {"rule": "best_of_n_weighted", "aggregation": "last", "subsets": 512}


def _samples(answers: ConfigDict) -> ConfigDict:
    """What the probe learns from."""
    config = answers.copy_and_resolve_references()
    config.split, config.limit = "train", 300
    config.sampling.n, config.execution.rows = 8, 128
    config.selection.subsets = 16
    return config


def _probe(answers: ConfigDict) -> ConfigDict:
    """Whether each answer is right, told at the end of each of its steps."""
    return ConfigDict(
        {
            "job": "train",
            "kind": "outcome_probe",
            "seed": 0,
            "task": {},
            "split": "train",
            "prompt": answers.prompt,
            "step_delimiter": answers.step_delimiter,
            "start": {"path": "", "tokenizer": "", "dtype": ""},
            "data": {"path": "stage:samples", "held_out": 0.1},
            "train": {"batch_tokens": 8192, "lengths": (640, 768, 896, 1024, 1280)},
        }
    )


def _search(answers: ConfigDict) -> ConfigDict:
    """Voting, best-of-N and beam search, at the same numbers of generations."""
    config = answers.copy_and_resolve_references()
    with config.unlocked():
        config.job = "sweep"
        config.selection.rule = "best_of_n_weighted"
        config.sweep = {
            "budgets": (1, 2, 4, 8, 16),
            "seeds": (0,),
            "difficulty": {"samples": 8, "seed": 1000},  # for the bins; these are not scored
            "strategies": {"best_of_n": _entry("best_of_n"), "beam_4": _entry("beam", width=4)},
        }
    config.execution.rows = 128
    config.verifier.path = "stage:probe"
    config.search.trees = 8  # questions, the first of the split, whose search trees are kept
    return config


def _entry(strategy: str, **options: int) -> dict[str, Any]:
    """A strategy of the sweep, with its models."""
    return {
        "strategy": strategy,
        "lookahead": 0,
        "ratio": 0.0,
        "generator": "",
        "verifier": "",
        "options": options,
    }


def _policy() -> ConfigDict:
    """Three bins of difficulty: what so few questions can tell apart."""
    return ConfigDict(
        {
            "job": "policy",
            "seed": 0,
            "data": {"path": "stage:search"},
            "selection": _SELECTION,
            "policy": {
                "difficulty": "few",  # of the policy that is written; all kinds are reported
                "samples": 4,  # that tell few's difficulty
                "bins": 3,
                "edges": (),
                "budgets": (4, 8, 16),
                "baseline": "best_of_n",
                "pools": ("best_of_n",),
                "resamples": 1000,
            },
            "flops_match": {"large": "", "scale": 14.0, "ratios": (0.16,), "formula": "arxiv"},
        }
    )
