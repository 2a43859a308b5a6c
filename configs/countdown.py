r"""The embedded task Countdown: its models, and how they are made.

    ttc run --config=configs/countdown.py:assets --workdir=runs/countdown

trains all of them from nothing and goes on where it was stopped; it sees no test question. A stage
of it also runs alone, such as

    ttc train --config=configs/countdown.py:generator --workdir=runs/generator
    ttc collect --config=configs/countdown.py:rollouts --workdir=runs/rollouts
    ttc train --config=configs/countdown.py:prm --workdir=runs/prm --config.data.path=runs/rollouts

All verifiers are as large as the generator, which they are built on.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "assets": ("run", "all models, from nothing, with their manifest (the default)"),
    "generator": ("train", "the generator, on worked solutions"),
    "large": ("train", "14 times its parameters, on the same tokens"),
    "medium": ("train", "4 times its parameters, on the same tokens"),
    "rollouts": ("collect", "step values: 4 rollouts from each step of 4 answers"),
    "prm": ("train", "a PRM on Monte-Carlo values"),
    "orm": ("train", "an ORM on the correctness of answers"),
    "revision": ("train", "a model that revises, on pairs built from parallel samples"),
    "revision_orm": ("train", "an ORM that sees earlier answers, on chains of revisions"),
    "samples": ("run", "64 answers to each of 300 validation questions"),
    "greedy": ("run", "the most likely answer to each of 500 validation questions"),
}

# Further fields of every `train` section; see ttc_jax.training.optimisation.
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
# Buckets of examples, tokens: worked solutions take 71 at most, answers of a model 78, and those
# behind four others 318.
_LENGTHS = (32, 48, 64, 80)
_LONG_LENGTHS = (*_LENGTHS, 144, 208, 272, 336)


def get_config(variant: str = "assets") -> ConfigDict:
    variants = {
        "assets": _assets,
        "generator": _generator,
        "large": _large,
        "medium": _medium,
        "rollouts": _rollouts,
        "prm": _prm,
        "orm": _orm,
        "revision": _revision,
        "revision_orm": _revision_orm,
        "samples": _samples,
        "greedy": _greedy,
    }
    config = variants[variant](_base())
    config.job, _ = VARIANTS[variant]
    return config


def _base() -> ConfigDict:
    """What all variants share."""
    config = ConfigDict()
    config.seed = 0
    config.task = {"name": "countdown", "size": 300, "seed": 0}
    config.prompt = {"template": "{question}"}
    return config


def _stage(job: str, like: Callable[[ConfigDict], ConfigDict], **fields: Any) -> ConfigDict:
    """A job's config with fields changed; dots of a field are `__` in a keyword."""
    found = like(_base())
    found.job = job
    found.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return found


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
        "steps": 6000,
        "learning_rate": 3e-3,
        "batch_tokens": 2048,
        "evaluate_every": 500,
        "lengths": _LENGTHS,
        **_TRAIN,
    }
    config.execution = _MESH
    return config


def _large(config: ConfigDict) -> ConfigDict:
    """What pretraining would buy instead of test-time compute."""
    config = _generator(config)
    config.model.width, config.model.ffn_width = 160, 424
    config.model.depth, config.model.heads, config.model.head_size = 4, 8, 20
    config.train.learning_rate = 2e-3
    return config


def _medium(config: ConfigDict) -> ConfigDict:
    """Between the two."""
    config = _generator(config)
    config.model.width, config.model.ffn_width, config.model.head_size = 96, 256, 24
    config.train.learning_rate = 2.5e-3
    return config


def _sampling(n: int) -> dict[str, Any]:
    """N answers to each question, at the temperature that validation questions chose."""
    return {"n": n, "temperature": 0.7, "top_k": 0, "top_p": 1.0, "max_new_tokens": 60}


def _samples(config: ConfigDict) -> ConfigDict:
    config.split, config.limit = "validation", 0  # limit 0: all questions
    config.generator = {"path": "runs/countdown/generator/model", "tokenizer": "", **_STORAGE}
    config.verifier = {"path": "", **_STORAGE}
    config.execution = {"rows": 1280, "lanes": 0, "refill": True, "segment": 1, **_MESH}
    config.sampling = _sampling(64)
    config.step_delimiter = "\n"
    config.search = {
        "strategy": "best_of_n",
        "options": {},
        "lookahead": 0,
        "max_step_tokens": 24,
        "rounds": 40,
        "revisions": 1,
        "trees": 0,  # questions, the first of the split, whose search trees are kept
    }
    config.selection = {"aggregation": "last", "subsets": 16}
    return config


def _greedy(config: ConfigDict) -> ConfigDict:
    config = _samples(config)
    config.task.size, config.execution.rows = 500, 64
    config.sampling.n, config.sampling.temperature = 1, 0.0
    return config


def _rollouts(config: ConfigDict) -> ConfigDict:
    """What verifiers learn from: questions that the generator has not seen in training."""
    config.task.size, config.task.seed = 12_000, 1
    config.split, config.limit = "train", 0
    config.generator = {"path": "runs/countdown/generator/model", "tokenizer": "", **_STORAGE}
    config.sampling = _sampling(4)
    config.step_delimiter = "\n"
    config.execution = {"rows": 1024, **_MESH}
    config.rollouts = {"ends": 4, "rows_per_question": 16}
    return config


def _on_records(config: ConfigDict, kind: str, path: str) -> ConfigDict:
    """Ten percent of the questions are held out (paper section 2)."""
    config.kind, config.split = kind, "train"
    config.task.seed, config.task.size = 1, 12_000  # those of the collection
    config.start = {"path": "runs/countdown/generator/model", "tokenizer": ""}
    config.data = {"path": path, "held_out": 0.1}
    config.step_delimiter = "\n"
    config.train = {
        "steps": 1500,
        "learning_rate": 2e-3,
        "batch_tokens": 4096,
        "evaluate_every": 250,
        "lengths": _LENGTHS,
        **_TRAIN,
    }
    config.execution = _MESH
    return config


def _prm(config: ConfigDict) -> ConfigDict:
    """A head on the generator's own layers, all of which learn."""
    config = _on_records(config, "prm", "runs/countdown/rollouts")
    config.model = {"depth": 0, "ffn_width": 128, "reads_tokens": False}
    return config


def _orm(config: ConfigDict) -> ConfigDict:
    """The PRM's network on the outcomes of many samples, which cost less than rollouts."""
    config = _prm(config)
    config.kind, config.data.path = "orm", "runs/countdown/samples"
    config.task.seed, config.task.size = 2, 4000
    return config


def _revision(config: ConfigDict) -> ConfigDict:
    """Kept slightly after the validation loss is lowest: that loss is off-policy and misleads."""
    config = _on_records(config, "revision", "runs/countdown/samples")
    config.task.seed, config.task.size = 2, 4000
    config.data.per_question = 16
    config.train.learning_rate, config.train.lengths = 1e-3, _LONG_LENGTHS
    config.train.steps, config.train.past_best = 3000, 1
    return config


def _revision_orm(config: ConfigDict) -> ConfigDict:
    """On what the model that revises wrote, which a verifier of first answers judges badly."""
    config = _orm(config)
    config.task.seed, config.task.size = 3, 2000
    config.start.path, config.data.path = "runs/countdown/revision/model", "runs/countdown/chains"
    config.train.lengths = _LONG_LENGTHS
    return config


def _assets(config: ConfigDict) -> ConfigDict:
    """Everything, stage by stage; no stage sees a test question."""
    train: dict[str, Any] = {"split": "train", "execution__rows": 1024}
    on_generator = {"start__path": "stage:generator"}
    sizes: dict[str, Callable[[ConfigDict], ConfigDict]] = {
        "generator": _generator,
        "medium": _medium,
        "large": _large,
    }

    def size(name: str) -> dict[str, Any]:
        greedy = _stage("run", _greedy, generator__path=f"stage:{name}")
        return {name: _stage("train", sizes[name]), f"{name}_greedy": greedy}

    # The longest trainings come last: everything else can be looked at before.
    stages: dict[str, Any] = size("generator")
    stages |= {
        "rollouts": _stage("collect", _rollouts, generator__path="stage:generator"),
        "prm": _stage("train", _prm, data__path="stage:rollouts", **on_generator),
        "samples": _stage(
            "run",
            _samples,
            generator__path="stage:generator",
            task__seed=2,
            task__size=4000,
            sampling__n=16,
            **train,
        ),
        "orm": _stage("train", _orm, data__path="stage:samples", **on_generator),
        "revision": _stage("train", _revision, data__path="stage:samples", **on_generator),
        "chains": _stage(
            "run",
            _samples,
            generator__path="stage:revision",
            task__seed=3,
            task__size=2000,
            sampling__n=4,
            search__revisions=5,
            **train,
        ),
        "revision_orm": _stage(
            "train", _revision_orm, start__path="stage:revision", data__path="stage:chains"
        ),
    }
    stages |= size("medium") | size("large")
    shipped = (*sizes, "prm", "orm", "revision", "revision_orm")
    stages["models"] = {
        "job": "gather",
        "models": {name: f"stage:{name}" for name in shipped},
        "measured": {
            **{name: {"greedy": f"stage:{name}_greedy"} for name in sizes},
            "revision": {"chains": "stage:chains"},
        },
        "megabytes": 12.0,
    }
    config.stages, config.stage = tuple(stages), stages
    return config
