r"""The embedded task Countdown: its models and how they are made.

    ttc train --config=configs/countdown.py:generator --workdir=runs/countdown/generator

trains a generator from fresh weights, and

    ttc run --config=configs/countdown.py:samples --workdir=runs/countdown/samples \
        --config.generator.path=runs/countdown/generator/model

draws 64 answers to each of 300 validation questions.
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "generator": ("train", "the generator, on worked solutions (the default)"),
    "large": ("train", "14 times its parameters, on the same tokens"),
    "greedy": ("run", "the most likely answer to each of 500 validation questions"),
    "samples": ("run", "64 answers to each of 300 validation questions"),
}

_TRAIN = {
    "accumulate": 1,
    "dropout": 0.0,
    "remat": False,
    "compute_dtype": "float32",
    "patience": 0,
    "past_best": 0,
}
_MESH = {"mesh": {"data": 1, "model": 1}}
_STORAGE = {"dtype": "float32", "weights": "", "cache": ""}
_LENGTHS = (32, 48, 64, 80)  # of question and solution, tokens: five numbers take 71


def get_config(variant: str = "generator") -> ConfigDict:
    variants = {"generator": _generator, "large": _large, "greedy": _greedy, "samples": _samples}
    config = ConfigDict()
    config.seed = 0
    config.task = {"name": "countdown", "size": 300, "seed": 0}
    config.prompt = {"template": "{question}"}
    config = variants[variant](config)
    config.job, _ = VARIANTS[variant]
    return config


def _generator(config: ConfigDict) -> ConfigDict:
    """About 75,000 parameters."""
    config.kind, config.split = "sft", "train"
    config.task.size = 100_000
    config.data = {"held_out": 0.01}
    config.start = {"path": "", "tokenizer": ""}  # fresh weights
    config.model = {
        "width": 48,
        "depth": 3,
        "heads": 4,
        "kv_heads": 1,
        "head_size": 12,
        "ffn_width": 128,
        "context": 512,  # four earlier answers, where it revises
    }
    config.train = {
        "steps": 3000,
        "learning_rate": 3e-3,
        "batch_tokens": 2048,
        "evaluate_every": 500,
        "lengths": _LENGTHS,
        **_TRAIN,
    }
    config.execution = _MESH
    return config


def _large(config: ConfigDict) -> ConfigDict:
    config = _generator(config)
    config.model.width, config.model.ffn_width = 160, 424
    config.model.depth, config.model.heads, config.model.head_size = 4, 8, 20
    config.train.learning_rate = 2e-3
    return config


def _samples(config: ConfigDict, n: int = 64, temperature: float = 0.7) -> ConfigDict:
    config.split, config.limit = "validation", 0  # limit 0: all questions
    config.generator = {"path": "runs/countdown/generator/model", "tokenizer": "", **_STORAGE}
    config.verifier = {"path": "", **_STORAGE}
    config.execution = {"rows": 1280, "lanes": 0, "refill": True, "segment": 1, **_MESH}
    config.sampling = {
        "n": n,
        "temperature": temperature,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": 60,
    }
    config.step_delimiter = "\n"
    options: dict[str, Any] = {}
    config.search = {
        "strategy": "best_of_n",
        "options": options,
        "lookahead": 0,
        "max_step_tokens": 24,
        "rounds": 40,
        "revisions": 1,
        "trees": 0,
    }
    config.selection = {"aggregation": "last", "subsets": 16}
    return config


def _greedy(config: ConfigDict) -> ConfigDict:
    config = _samples(config, n=1, temperature=0.0)
    config.task.size, config.execution.rows = 500, 64
    return config
