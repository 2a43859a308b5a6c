r"""How well verifiers find the first wrong step: ProcessBench, PRM800K, or your own rows.

    ttc judge --config=judge:qwen2_5_math_prm --workdir=runs/judge \
        --config.data.path=/path/to/ProcessBench

reads gsm8k.json, math.json, olympiadbench.json and omnimath.json in that folder, as they are to be
had at https://huggingface.co/datasets/Qwen/ProcessBench, and scores each step of their solutions.
The threshold is chosen on a fifth of the questions; the figures are of the others. For one that is
given, as where figures are compared that were measured so, add --config.judge.threshold=0.5.

The embedded task labels steps itself, so that answers of a run can be judged:

    ttc run --config=countdown:best_of_n --workdir=runs/best_of_n
    ttc judge --config=judge:countdown --workdir=runs/judge --config.data.path=runs/best_of_n

Every verifier takes the variant that is nearest to it, and its own path.
"""

from ml_collections import ConfigDict

VARIANTS = {
    "qwen2_5_math_prm": ("judge", "Qwen2.5-Math-PRM-7B (the default)"),
    "math_shepherd": ("judge", "Math-Shepherd's PRM of Mistral-7B"),
    "rlhflow": ("judge", "RLHFlow's PRM of Llama-3.1-8B"),
    "skywork": ("judge", "Skywork-o1-Open-PRM of Qwen2.5-1.5B"),
    "confidence": ("judge", "how sure Qwen2.5-0.5B-Instruct is of each step"),
    "countdown": ("judge", "the embedded PRM, on answers to the embedded task"),
}

_PRMS = {
    "qwen2_5_math_prm": "Qwen/Qwen2.5-Math-PRM-7B",
    "math_shepherd": "peiyi9979/math-shepherd-mistral-7b-prm",
    "rlhflow": "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data",
    "skywork": "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B",
}


def get_config(variant: str = "qwen2_5_math_prm") -> ConfigDict:
    embedded, public = variant == "countdown", variant in _PRMS
    config = ConfigDict({"job": "judge", "seed": 0})
    # path: a file or folder of labelled solutions, or a workdir with answers to the task.
    config.data = {"path": "", "held_out": 0.2}
    config.judge = {"threshold": 0.0}
    config.limit = 0
    # Of the answers in a workdir; files of labelled solutions need no task.
    config.task = {"name": "countdown", "size": 500, "seed": 0}
    config.split = "test"
    # What a verifier's tokens come from, and a probe's and a confidence's states; a PRM that was
    # trained elsewhere has a tokenizer of its own and needs none.
    generator = "embedded:generator" if embedded else "Qwen/Qwen2.5-0.5B-Instruct"
    dtype = "bfloat16" if public else "float32"
    kept = {"dtype": dtype, "weights": "", "cache": ""}
    config.generator = {"path": "" if public else generator, "tokenizer": "", **kept}
    verifier = "embedded:prm" if embedded else "confidence:log_prob"
    config.verifier = {"path": _PRMS.get(variant, verifier), **kept}
    config.prompt = {
        "template": "{question}",
        "chat": not (embedded or public),
        "system": "",
        "shots": (),
        "stop": "",
        "revision": "",
        "chat_template_kwargs": "",
    }
    config.step_delimiter = "\n" if embedded else "\n\n"
    # rows: solutions that are read together. Devices: these are split over `data`.
    config.execution = {"rows": 16, "mesh": {"data": 1, "model": 1}}
    return config
