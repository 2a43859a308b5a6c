r"""MATH-500 with public generators, and with public PRMs.

    ttc run --config=configs/math.py:qwen2_5 --workdir=runs/math-qwen

downloads Qwen2.5-0.5B-Instruct and the data set, and lets 16 answers vote. For files at hand add

    --config.generator.path=/path/to/folder-or-file.gguf --config.task.path=/path/to/test.jsonl

The same on AIME or AMC, whose problems come from a file of one's own:

    ttc run --config=configs/math.py:qwen2_5 --workdir=runs/aime \
        --config.task.name=aime24 --config.task.path=/path/to/aime24.jsonl

Another generator of a family that is here takes that family's variant and its own path.
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "smollm2": ("run", "SmolLM2-135M-Instruct, 16 answers to the first 100 problems"),
    "qwen2_5": ("run", "Qwen2.5-0.5B-Instruct, the same problems"),
    "qwen2_5_coder": ("run", "Qwen2.5-Coder-0.5B-Instruct behind worked examples"),
    "qwen2_5_1_5b": ("run", "Qwen2.5-1.5B-Instruct, judged by Qwen2.5-Math-PRM-7B"),
    "llama3_2_1b": ("run", "Llama-3.2-1B-Instruct, judged by RLHFlow's 8B PRM"),
    "llama3_2_1b_base": ("run", "Llama-3.2-1B, a base model, behind worked examples"),
}

_MODELS = {  # variant -> generator, verifier, how the generator is asked
    "smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", "", "lines"),
    "qwen2_5": ("Qwen/Qwen2.5-0.5B-Instruct", "", "lines"),
    "qwen2_5_coder": ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "", "text"),
    "qwen2_5_1_5b": ("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-Math-PRM-7B", "qwen"),
    "llama3_2_1b": (
        "meta-llama/Llama-3.2-1B-Instruct",
        "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data",
        "llama",
    ),
    "llama3_2_1b_base": ("meta-llama/Llama-3.2-1B", "", "text"),
}

_EXAMPLES = (
    (
        "A baker fills 6 trays with 14 rolls each. He sells 48 of the rolls and shares the rest "
        "equally among 9 neighbours. How many rolls does each neighbour get?",
        "The baker makes 6 * 14 = 84 rolls.\n"
        "After the sale 84 - 48 = 36 rolls are left.\n"
        "Each neighbour gets 36 / 9 = 4 rolls.\n"
        "The answer is \\boxed{4}.",
    ),
    (
        "A train ticket costs $35, and children pay 40% less. How many dollars do two adults and "
        "three children pay together?",
        "A child pays 35 * 0.4 = 14 dollars less.\n"
        "So a child's ticket costs 35 - 14 = 21 dollars.\n"
        "The adults pay 2 * 35 = 70 dollars.\n"
        "The children pay 3 * 21 = 63 dollars.\n"
        "Together they pay 70 + 63 = 133 dollars.\n"
        "The answer is \\boxed{133}.",
    ),
    (
        "Mira reads 12 pages on Monday, and on each later day 5 pages more than on the day before. "
        "How many pages has she read by the end of Thursday?",
        "On Tuesday she reads 12 + 5 = 17 pages.\n"
        "On Wednesday she reads 17 + 5 = 22 pages.\n"
        "On Thursday she reads 22 + 5 = 27 pages.\n"
        "In all she has read 12 + 17 + 22 + 27 = 78 pages.\n"
        "The answer is \\boxed{78}.",
    ),
    (
        "Solve for $x$: $3(x - 4) = x + 10$.",
        "Without the brackets the equation is $3x - 12 = x + 10$.\n"
        "Taking $x$ from both sides gives $2x - 12 = 10$.\n"
        "Adding 12 gives $2x = 22$.\n"
        "So $x = 11$.\n"
        "The answer is \\boxed{11}.",
    ),
)

# How models that were not trained for it are made to answer in steps: the prompt, and what ends a
# step. Llama and Qwen end steps with a blank line, as their PRMs were taught.
_ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "lines": (
        {
            "template": "{question}\n\nSolve the problem step by step, one step a line, and put "
            "the final answer in \\boxed{}.",
            "chat": True,
        },
        "\n",
    ),
    "llama": (
        {
            "chat": True,
            "system": "Solve the problem in steps. Begin each step on a line of its own, as in "
            "'## Step 1: what it does', and end it with a blank line. After the last step write: "
            "Therefore, the final answer is: $\\boxed{answer}$.",
        },
        "\n\n",
    ),
    "qwen": (
        {
            "chat": True,
            "system": "Please reason step by step, and put your final answer within \\boxed{}.",
        },
        "\n\n",
    ),
    # As a text to go on with. A base model would go on with a problem of its own, behind a blank
    # line. A small chat model keeps to the examples' short steps: asked in chat it would not.
    "text": (
        {"template": "Problem: {question}\nSolution:\n", "shots": _EXAMPLES, "stop": "\n\n"},
        "\n",
    ),
}


def get_config(variant: str = "qwen2_5") -> ConfigDict:
    generator, verifier, asked = _MODELS[variant]
    prompt, delimiter = _ASKED[asked]
    config = ConfigDict()
    config.job, config.seed = "run", 0
    # unboxed: whether a solution without a box may give its answer in prose.
    config.task = {"name": "math", "path": "", "train_path": "", "unboxed": True}
    config.split, config.limit = "test", 100
    config.prompt = {
        "template": "{question}",
        "chat": False,
        "system": "",
        "shots": (),
        "stop": "",
        "revision": "",
        "chat_template_kwargs": "",  # of the tokenizer's, as JSON: {"enable_thinking": false}
        **prompt,
    }
    # Of a model that thinks first: close="</think>" (see docs/studies.md). "": it does not.
    config.thinking = {
        "open": "<think>",
        "close": "",
        "closing": "\n</think>\n\n",
        "continuation": "\nWait",
        "minimum": 0,
        "maximum": -1,
        "steps": False,
    }
    # weights and cache: "int8", or "" for dtype, which is what is computed in.
    kept = {"dtype": "bfloat16" if verifier else "float32", "weights": "", "cache": ""}
    # tokenizer: a folder, .gguf file or hub name of its own; "" for the one that lies in path.
    config.generator = {"path": generator, "tokenizer": "", **kept}
    config.verifier = {"path": verifier, **kept}  # majority and pass@N need none
    config.execution = {
        "rows": 64,  # candidates decoded together, over all questions of a batch
        "lanes": 0,
        "refill": True,
        "segment": 1,
        "cache": "",
        # Devices: questions are split over `data`, each model over `model`.
        "mesh": {"data": 1, "model": 1},
    }
    config.sampling = {
        "n": 16,
        "temperature": 0.7,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": 512,
    }
    config.step_delimiter = delimiter
    config.search = {
        "strategy": "best_of_n",
        "options": {},
        "judge": "",
        "lookahead": 0,
        "max_step_tokens": 64,
        "rounds": 40,
        "revisions": 1,
        "trees": 0,
    }
    config.selection = {"aggregation": "last", "subsets": 512}
    return config
