"""An endpoint of OpenAI's API that thinks longer where a request asks for it.

    ttc serve --config=serve --port=8000

serves the embedded models, which know Countdown, and a model of your own with a PRM

    ttc serve --config=serve:math --config.generator.path=Qwen/Qwen2.5-1.5B-Instruct

on this machine alone, until --config.serve.key_file names a file of API keys.
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "embedded": ("serve", "the embedded models, which know Countdown (the default)"),
    "math": ("serve", "an instruction-tuned model with a PRM for mathematics"),
}

_STORAGE = {"dtype": "float32", "weights": "", "cache": ""}


def get_config(variant: str = "embedded") -> ConfigDict:
    config = {"embedded": _embedded, "math": _math}[variant](_base())
    config.job, _ = VARIANTS[variant]
    return config


def _base() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    # Where a client gives a budget or a strategy, answers are read as this task does, and vote.
    config.selection = {"rule": "best_of_n_weighted", "aggregation": "last"}
    config.budget = 16  # generations, where a client names a strategy alone
    config.policy = {"path": ""}  # what `ttc policy` wrote: clients name it as the strategy policy
    # The same, a budget that holds on average over questions: clients name it allocation.
    config.allocation = {"path": ""}
    config.own = ""
    config.step_delimiter = "\n"
    # What a client leaves open.
    config.sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 128}
    config.search = {"max_step_tokens": 24, "rounds": 40}
    config.execution = {
        "rows": 64,  # candidates decoded together, of each program
        "lanes": 0,
        "refill": True,
        "segment": 1,
        "cache": "",
        "mesh": {"data": 1, "model": 1},
    }
    config.serve = {
        "host": "127.0.0.1",
        "port": 8000,
        "name": "",  # of the model, as clients give it; "": the last part of generator.path
        "key_file": "",  # API keys, one a line; TTC_API_KEYS in the environment holds others
        "strategies": {
            "best_of_n": _entry("best_of_n"),
            "beam": _entry("beam", width=4),
        },
        "strategy": "beam",  # of clients that give a budget alone; "": they have to name one
        "warm": ("plain",),  # compiled before it is ready: plain, or strategies as in beam-16
        "programs": 4,  # that have slots, and so caches, at once
        # What a client may ask for at most.
        "requests": 256,
        "body_bytes": 1 << 20,
        "body_seconds": 10.0,
        "seconds": 300.0,
        "prompts": 16,
        "n": 16,
        "prompt_tokens": 96,
        "answer_tokens": (128,),
        "budgets": (4, 8, 16, 32, 64),
    }
    return config


def _entry(strategy: str, lookahead: int = 0, **options: Any) -> dict[str, Any]:
    return {"strategy": strategy, "lookahead": lookahead, "options": options}


def _embedded(config: ConfigDict) -> ConfigDict:
    config.task = {"name": "countdown"}
    config.prompt = {"template": "{question}"}
    config.generator = {"path": "embedded:generator", "tokenizer": "", **_STORAGE}
    config.verifier = {"path": "embedded:prm", **_STORAGE}
    config.sampling.temperature = 0.7  # as in configs/countdown.py
    return config


def _math(config: ConfigDict) -> ConfigDict:
    config.task = {"name": "math"}
    config.prompt = {"template": "{question}", "chat": True, "system": ""}
    storage = {**_STORAGE, "dtype": "bfloat16"}
    config.generator = {"path": "Qwen/Qwen2.5-1.5B-Instruct", "tokenizer": "", **storage}
    config.verifier = {"path": "Qwen/Qwen2.5-Math-PRM-7B", **storage}
    config.step_delimiter = "\n\n"
    config.search.max_step_tokens = 256
    config.sampling.max_new_tokens = 1024
    config.serve.prompt_tokens = 2048
    config.serve.answer_tokens = (256, 1024, 2048)
    config.serve.seconds = 600.0
    return config
