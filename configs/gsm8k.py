"""GSM8K with public generators: answers that vote, or a study with a verifier of its own.

    ttc run --config=configs/gsm8k.py:smollm2 --workdir=runs/gsm8k-smollm2

downloads SmolLM2-135M-Instruct and the data set. For files at hand add

    --config.generator.path=/path/to/folder-or-file.gguf --config.task.path=/path/to/test.jsonl

The study of Qwen2.5-Coder-0.5B-Instruct samples answers to training questions, teaches a probe of
the generator's hidden states which of them are right, searches with it on test questions at up to
16 generations, fits the compute-optimal policy, and reports:

    ttc run --config=configs/gsm8k.py:qwen2_5_coder --workdir=runs/gsm8k

It takes hours on a CPU, and goes on where it was when the command is given again. So does the study
of thinking lengths: the same model may write so many tokens before its final answer, and the policy
chooses how many by difficulty:

    ttc run --config=configs/gsm8k.py:thinking --workdir=runs/thinking

Local files are named once for all stages, and both splits:

    --config.generator.path=/path/to/model.gguf --config.task.path=/path/to/test.jsonl
    --config.task.train_path=/path/to/train.jsonl
"""

from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.config import load_config

VARIANTS = {
    "smollm2": ("run", "SmolLM2-135M-Instruct, 16 answers to the first 100 test questions"),
    "qwen2_5": ("run", "Qwen2.5-0.5B-Instruct, the same questions"),
    "qwen2_5_coder": ("run", "Qwen2.5-Coder-0.5B-Instruct, probe, search, policy: in hours"),
    "thinking": ("run", "the same model, thinking for 16 to 192 tokens, policy: in hours"),
}
_MARK = "####"  # one token of Qwen's: what stands before it is the thought


def get_config(variant: str = "smollm2") -> ConfigDict:
    studies = {"qwen2_5_coder": _study, "thinking": _thinking}
    return studies[variant]() if variant in studies else _answers(variant)


def _answers(variant: str) -> ConfigDict:
    """As MATH is asked, in fewer tokens."""
    config = load_config(f"{Path(__file__).with_name('math.py')}:{variant}")
    config.task.name = "gsm8k"
    config.sampling.max_new_tokens = 256
    config.prompt.template = config.prompt.template.replace("final answer", "final number")
    config.prompt.shots = config.prompt.shots[:3]  # those that are no equations
    return config


def _study() -> ConfigDict:
    """configs/study.py:hours_probe behind worked examples."""
    answers = _answers("qwen2_5_coder")
    config = load_config(f"{Path(__file__).with_name('study.py')}:hours_probe")
    config.generator.path = answers.generator.path
    config.prompt.update(answers.prompt)
    config.step_delimiter = answers.step_delimiter
    config.sampling.max_new_tokens = answers.sampling.max_new_tokens
    config.limit, config.stage.samples.limit = 150, 300
    config.stage.probe.train.lengths = (640, 768, 896, 1024, 1280)
    for stage in (config.stage.samples, config.stage.search):
        stage.execution.rows, stage.search.max_step_tokens = 128, 64
    config.stage.report.title = "Test-time compute with Qwen2.5-Coder-0.5B-Instruct on GSM8K"
    return config


def _thinking() -> ConfigDict:
    """Voting at four lengths of thoughts; log-probabilities stand in for a verifier."""
    answers = _answers("qwen2_5_coder")
    config = load_config(f"{Path(__file__).with_name('study.py')}:vote")
    config.generator.path, config.verifier.path = answers.generator.path, "confidence:log_prob"
    shots = answers.prompt.shots
    shots = tuple((asked, told.replace("The answer is ", f"{_MARK} ")) for asked, told in shots)
    config.prompt.update(answers.prompt)
    config.prompt.shots = shots
    config.step_delimiter = answers.step_delimiter
    config.thinking.update({"open": "", "close": _MARK, "closing": f"\n{_MARK}"})
    config.sampling.max_new_tokens = 192
    config.limit, config.budgets = 100, (1, 2, 4, 8)
    config.stages = ("search", "policy", "report")
    search, policy = config.stage.search, config.stage.policy
    search.execution.rows = 64
    search.sweep.difficulty.samples = 8
    entry = search.sweep.strategies.best_of_n
    with config.unlocked():
        search.sweep.strategies = {
            "best_of_n": entry,
            **{f"think_{n}": {**entry, "thinking": n} for n in (16, 32, 64)},
        }
        del policy.policy.budgets  # else it would stay those of the sweep
        policy.policy.update(
            {"samples": 4, "bins": 3, "unit": "tokens", "budgets": (200, 400, 800)}
        )
    policy.selection.rule = search.selection.rule = "majority"
    policy.policy.pools = tuple(search.sweep.strategies)
    config.stage.report.title = "Thinking lengths of Qwen2.5-Coder-0.5B-Instruct on GSM8K"
    return config
