r"""The embedded arithmetic task: everything on a laptop, from training to the report.

    ttc run --config=configs/arithmetic.py --workdir=runs/quickstart

samples 64 answers to each of 300 test questions with the shipped generator, scores their steps
with the shipped PRM, and reports accuracy against N for each way of choosing.

    ttc sweep --config=configs/arithmetic.py:search --workdir=runs/search

compares all search strategies at equal budgets, and goes on where it was stopped.

    ttc train --config=configs/arithmetic.py:generator --workdir=runs/generator

trains a generator from fresh weights. The other trainings learn from what has been collected:

    ttc collect --config=configs/arithmetic.py:rollouts --workdir=runs/rollouts
    ttc train --config=configs/arithmetic.py:prm --workdir=runs/prm --config.data.path=runs/rollouts
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "quickstart": "best-of-N on 300 test questions with the shipped models (the default; job: run)",
    "beam": "beam search with M=4 and N=16, on the same questions (job: run)",
    "search": "every strategy at 4, 16, 64 and 256 generations, two seeds (job: sweep)",
    "generator": "the generator, on worked solutions (job: train)",
    "rollouts": "step values: 4 rollouts from each step of 4 answers (job: collect)",
    "prm": "a PRM on Monte-Carlo values (job: train)",
    "orm": "an ORM on the correctness of answers (job: train)",
    "probe": "a probe of the generator's hidden states on Monte-Carlo values (job: train)",
    "revision": "a model that revises, on pairs built from parallel samples (job: train)",
    "revision_orm": "an ORM that sees earlier answers, on chains of revisions (job: train)",
    "rest_em": "the ReST^EM variant, on chains that got to a correct answer (job: train)",
}

# Further fields of every `train` section; see ttc_jax.training.optimisation.
_TRAIN = {
    "accumulate": 1,
    "dropout": 0.0,
    "remat": False,
    "compute_dtype": "float32",
    "patience": 0,
    "past_best": 0,
    "mesh": {"data": 1, "model": 1},
}
# Buckets of examples, tokens: without earlier answers in the prompt, and with four of them.
_LENGTHS = (64, 96, 128, 160)
_LONG_LENGTHS = (*_LENGTHS, 256, 384, 512, 640)


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
        "orm": _orm,
        "probe": _probe,
        "revision": _revision,
        "revision_orm": _revision_orm,
        "rest_em": _rest_em,
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
        "revisions": 1,
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


def _entry(
    strategy: str,
    lookahead: int = 0,
    ratio: float = 0.0,
    generator: str = "",
    verifier: str = "",
    **options: float,
) -> dict[str, Any]:
    """A strategy of a sweep.

    `ratio` is that of sequential to parallel answers, 0 for no revisions; models left out are those
    of the config.
    """
    return {
        "strategy": strategy,
        "lookahead": lookahead,
        "ratio": ratio,
        "generator": generator,
        "verifier": verifier,
        "options": options,
    }


def _generator(config: ConfigDict) -> ConfigDict:
    """About 170,000 parameters, stopped while still unsure: 4 million tokens."""
    config.kind, config.split = "sft", "train"
    config.task.size = 100_000
    config.data = {"held_out": 0.005}
    config.start = {"path": ""}  # fresh weights
    config.model = {
        "width": 64,
        "depth": 4,
        "heads": 4,
        "kv_heads": 1,
        "head_size": 16,
        "ffn_width": 160,
        "context": 1024,  # four earlier answers, where it revises
    }
    config.train = {
        "steps": 2000,
        "learning_rate": 3e-3,
        "batch_tokens": 2048,
        "evaluate_every": 250,
        "lengths": _LENGTHS,
        **_TRAIN,
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


def _on_records(config: ConfigDict, kind: str, path: str) -> ConfigDict:
    """Ten percent of the questions are held out (paper section 2)."""
    config.kind, config.split = kind, "train"
    config.task.seed, config.task.size = 1, 4000  # questions that the generator did not see
    config.start = {"path": "embedded:generator"}
    config.data = {"path": path, "held_out": 0.1}
    config.step_delimiter = "\n"
    config.train = {
        "steps": 600,
        "learning_rate": 3e-3,
        "batch_tokens": 4096,
        "evaluate_every": 100,
        "lengths": _LENGTHS,
        **_TRAIN,
    }
    return config


def _prm(config: ConfigDict) -> ConfigDict:
    """Two layers on the frozen generator."""
    config = _on_records(config, "prm", "runs/rollouts")
    config.model = {"depth": 2, "ffn_width": 160}
    return config


def _orm(config: ConfigDict) -> ConfigDict:
    """The PRM's network on the same answers."""
    config = _prm(config)
    config.kind = "orm"
    return config


def _probe(config: ConfigDict) -> ConfigDict:
    """A vector of the generator's width, which is solved for: there are no steps to set."""
    config = _on_records(config, "probe", "runs/rollouts")
    config.train = {"batch_tokens": 16384, "lengths": _LENGTHS}
    return config


def _revision(config: ConfigDict) -> ConfigDict:
    """Kept slightly after the validation loss is lowest: that loss is off-policy and misleads."""
    config = _on_records(config, "revision", "runs/samples")
    config.data.per_question = 16
    config.train.learning_rate, config.train.lengths = 1e-3, _LONG_LENGTHS
    config.train.past_best = 1
    return config


def _revision_orm(config: ConfigDict) -> ConfigDict:
    """On what the model that revises wrote, which a PRM of first answers judges badly."""
    config = _orm(config)
    config.data.path = "runs/chains"
    config.train.lengths = _LONG_LENGTHS
    return config


def _rest_em(config: ConfigDict) -> ConfigDict:
    """On chains of the base model."""
    config = _on_records(config, "rest_em", "runs/base-chains")
    config.data.per_length = 2000
    config.train.learning_rate, config.train.lengths = 1e-3, _LONG_LENGTHS
    return config
