"""GSM8K with public generators.

    ttc run --config=configs/gsm8k.py:smollm2 --workdir=runs/gsm8k-smollm2

downloads SmolLM2-135M-Instruct and the data set. For files at hand add

    --config.generator.path=/path/to/folder-or-file.gguf --config.task.path=/path/to/test.jsonl

"""

from ml_collections import ConfigDict

VARIANTS = {
    "smollm2": "SmolLM2-135M-Instruct, 16 answers to the first 100 test questions (job: run)",
    "qwen2_5": "Qwen2.5-0.5B-Instruct, the same questions (job: run)",
}

_GENERATORS = {
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "qwen2_5": "Qwen/Qwen2.5-0.5B-Instruct",
}


def get_config(variant: str = "smollm2") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.task = {"name": "gsm8k", "path": ""}
    config.split, config.limit = "test", 100
    config.prompt = {
        "template": "{question}\n\nSolve the problem step by step, one step a line, and put the "
        "final number in \\boxed{}.",
        "chat": True,
        "system": "",
    }
    # weights and cache: "int8", or "" for dtype, which is what is computed in.
    kept = {"dtype": "float32", "weights": "", "cache": ""}
    config.generator = {"path": _GENERATORS[variant], **kept}
    config.verifier = {"path": "", **kept}  # majority and pass@N need none
    # Devices: questions are split over `data`, each model over `model`.
    config.mesh = {"data": 1, "model": 1}
    config.sampling = {
        "n": 16,
        "temperature": 0.7,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": 256,
        "questions_per_batch": 4,
    }
    config.step_delimiter = "\n"
    config.search = {
        "strategy": "best_of_n",
        "options": {},
        "lookahead": 0,
        "max_step_tokens": 64,
        "rounds": 40,
        "revisions": 1,
        "refill": True,
        "segment": 1,
        "lanes": 0,
        "trees": 0,
    }
    config.selection = {"aggregation": "last", "subsets": 512}
    return config
