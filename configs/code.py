r"""HumanEval and MBPP: functions in Python, judged by running what the model writes.

    ttc run --config=configs/code.py:humaneval --workdir=runs/humaneval \
        --config.task.path=/path/to/HumanEval.jsonl --config.task.execute=isolated

Nothing is run unless task.execute says how; docs/code.md says what each way keeps a program from.
Answers whose programs do the same on a question's examples, and on variations of them, vote
together. The study of MBPP samples programs for its training questions, teaches a probe of the
generator's hidden states which of them are right, searches with it on test questions, fits the
compute-optimal policy, and reports:

    ttc run --config=configs/code.py:study --workdir=runs/mbpp \
        --config.task.path=/path/to/sanitized-mbpp.json --config.task.execute=isolated

The variants that end in base ask a model that knows no chat, as a text to go on with.
"""

from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.config import load_config

VARIANTS = {
    "humaneval": ("run", "Qwen2.5-Coder-0.5B-Instruct, 16 answers to HumanEval's 164 questions"),
    "humanevalplus": ("run", "the same with the tests of EvalPlus"),
    "humaneval_base": ("run", "Qwen2.5-Coder-0.5B, a base model, on HumanEval"),
    "mbpp": ("run", "Qwen2.5-Coder-0.5B-Instruct on the test questions of MBPP"),
    "mbppplus": ("run", "the same model on EvalPlus's part of MBPP"),
    "mbpp_base": ("run", "Qwen2.5-Coder-0.5B, a base model, on MBPP"),
    "study": ("run", "MBPP with a probe of the generator, search, policy: in hours"),
}

_TASK = {"path": "", "execute": "", "seconds": 5.0, "megabytes": 1024}
# "```" ends the block of code that the prompt begins, and the answer with it.
_PROMPTS = {
    "humaneval": {
        "template": "Complete this function. Answer with the whole function in one block of "
        "Python code.\n\n```python\n{question}```",
        "chat": True,
        "stop": "",
    },
    "mbpp": {
        "template": "{question}\n\nAnswer with the function in one block of Python code.",
        "chat": True,
        "stop": "",
    },
    "humaneval_base": {"template": "```python\n{question}", "chat": False, "stop": "```"},
    "mbpp_base": {"template": "{question}\n\n```python\n", "chat": False, "stop": "```"},
}


def get_config(variant: str = "humaneval") -> ConfigDict:
    if variant == "study":
        return _study()
    config = load_config(f"{Path(__file__).with_name('math.py')}:qwen2_5_coder")
    task, _, base = variant.partition("_")
    if base:
        config.generator.path = "Qwen/Qwen2.5-Coder-0.5B"
    _ask(config, task, base)
    config.limit = 0
    config.sampling.max_new_tokens = 384
    return config


def _ask(config: ConfigDict, task: str, base: str = "") -> None:
    """Puts the questions of a data set in place of a config's own."""
    with config.unlocked():
        for name in set(config.task) - {*_TASK}:
            del config.task[name]
        config.task.update({"name": task, **_TASK})
    prompt = f"{task.removesuffix('plus')}{'_' * bool(base)}{base}"
    config.prompt.update({**_PROMPTS[prompt], "shots": ()})
    config.step_delimiter = "\n"


def _study() -> ConfigDict:
    """configs/study.py:hours_probe on all training questions."""
    config = load_config(f"{Path(__file__).with_name('study.py')}:hours_probe")
    config.generator.path = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    _ask(config, "mbpp")
    config.sampling.max_new_tokens = 256
    config.stage.samples.limit = 0
    config.stage.report.title = "Test-time compute with Qwen2.5-Coder-0.5B-Instruct on MBPP"
    return config
