r"""The embedded arithmetic task: everything on a laptop, from training to the report.

    ttc run --config=configs/arithmetic.py --workdir=runs/quickstart

samples 64 answers to each of 300 test questions with the shipped generator, scores their steps
with the shipped PRM, and reports accuracy against N for each way of choosing.

    ttc sweep --config=configs/arithmetic.py:search --workdir=runs/search

compares all search strategies at equal budgets, and goes on where it was stopped. The checkpoints
were made by

    ttc train --config=configs/arithmetic.py:generator --workdir=runs/generator
    ttc train --config=configs/arithmetic.py:prm --workdir=runs/prm
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "quickstart": "best-of-N on 300 test questions with the shipped models (the default; job: run)",
    "beam": "beam search with M=4 and N=16, on the same questions (job: run)",
    "search": "every strategy at 4, 16, 64 and 256 generations, two seeds (job: sweep)",
    "generator": "the shipped generator's training (job: train)",
    "rollouts": "step values: 4 rollouts from each step of 4 answers (job: collect)",
    "prm": "the shipped PRM's Monte-Carlo rollouts and training (job: train)",
}


def get_config(variant: str = "quickstart") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.task = {"name": "arithmetic", "size": 300, "seed": 0}
    config.prompt = {"template": "{question}"}
    variants = {
        "quickstart": _quickstart,
        "beam": _beam,
        "search": _search,
        "generator": _generator,
        "rollouts": _rollouts,
        "prm": _prm,
    }
    return variants[variant](config)


def _quickstart(config: ConfigDict) -> ConfigDict:
    config.split, config.limit = "test", 0  # limit 0: all questions
    config.generator = {"path": "embedded:generator", "dtype": "float32"}
    config.verifier = {"path": "embedded:prm"}
    config.sampling = {
        "n": 64,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": 100,
        "questions_per_batch": 20,
    }
    config.step_delimiter = "\n"
    config.search = {
        "strategy": "best_of_n",
        "options": {},
        "lookahead": 0,
        "max_step_tokens": 24,
        "rounds": 40,
        "refill": True,
        "segment": 1,
        "lanes": 0,
    }
    config.selection = {"aggregation": "last", "subsets": 512}
    return config


def _beam(config: ConfigDict) -> ConfigDict:
    """Any strategy is switched on like this; its options are the fields of its class."""
    config = _quickstart(config)
    config.sampling.n = 16
    config.search.strategy, config.search.options = "beam", {"width": 4}
    return config


def _search(config: ConfigDict) -> ConfigDict:
    """The strategies of paper section 5 and of its successors, at equal budgets."""
    config = _quickstart(config)
    config.selection.rule = "best_of_n_weighted"
    config.sweep = {
        "budgets": (4, 16, 64, 256),
        "seeds": (0, 1),
        "rows": 1024,  # candidates decoded together, over all questions of a batch
        "strategies": {
            "best_of_n": _entry("best_of_n"),
            "beam_4": _entry("beam", width=4),
            "beam_sqrt_n": _entry("beam", width=0),
            "lookahead_1": _entry("beam", lookahead=1, width=4),
            "lookahead_3": _entry("beam", lookahead=3, width=4),
            "dvts": _entry("dvts", width=4),
            "rebase": _entry("rebase", temperature=0.2),
            "particles": _entry("particles", temperature=1.0),
        },
    }
    return config


def _entry(strategy: str, lookahead: int = 0, **options: float) -> dict[str, Any]:
    return {"strategy": strategy, "lookahead": lookahead, "options": options}


def _generator(config: ConfigDict) -> ConfigDict:
    """About 170,000 parameters, stopped while still unsure: 4 million tokens."""
    config.kind = "generator"
    config.train_questions, config.validation_questions = 100_000, 500
    config.model = {
        "width": 64,
        "depth": 4,
        "heads": 4,
        "kv_heads": 1,
        "head_size": 16,
        "ffn_width": 160,
        "context": 256,
    }
    config.train = {
        "steps": 2000,
        "learning_rate": 3e-3,
        "batch_tokens": 2048,
        "evaluate_every": 250,
        "save_every": 250,
        "lengths": (64, 96, 128, 160),
    }
    return config


def _rollouts(config: ConfigDict) -> ConfigDict:
    """What a PRM learns from. The paper's scale is sampling.n = rollouts.ends = 16."""
    config.task.size, config.task.seed = 2000, 1  # questions that the generator has not seen
    config.split, config.limit = "train", 0
    config.generator = {"path": "embedded:generator", "dtype": "float32"}
    config.sampling = {
        "n": 4,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": 100,
        "questions_per_batch": 256,
    }
    config.step_delimiter = "\n"
    config.rollouts = {"ends": 4, "questions_per_batch": 32, "rows": 16}  # rows of each question
    return config


def _prm(config: ConfigDict) -> ConfigDict:
    """Two layers on the frozen generator; small scale: 4 samples of 2,000 questions, 4 rollouts."""
    config.kind = "prm"
    config.task.seed = 1  # questions that the generator was not trained on
    config.generator = {"path": "embedded:generator"}
    config.train_questions, config.validation_questions = 2000, 200
    config.rollouts = {
        "samples": 4,
        "ends": 4,
        "temperature": 1.0,
        "max_new_tokens": 100,
        "rows": 1024,
    }
    config.model = {"depth": 2, "ffn_width": 160}
    config.train = {
        "steps": 600,
        "learning_rate": 3e-3,
        "batch_tokens": 4096,
        "evaluate_every": 100,
        "save_every": 100,
        "lengths": (64, 96, 128, 160),
    }
    return config
