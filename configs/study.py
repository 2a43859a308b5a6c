r"""A study of your own model: any generator, verifier and task, from samples to the report.

    ttc run --config=study --workdir=runs/study \
        --config.generator.path=Qwen/Qwen2.5-1.5B-Instruct \
        --config.verifier.path=Qwen/Qwen2.5-Math-PRM-7B --config.task.name=gsm8k

searches with voting, best-of-N, beam search and DVTS at the paper's budgets, fits the
compute-optimal policy, and writes a page. Without a public PRM a probe of the generator's hidden
states is trained first, on answers to training questions; without any verifier answers vote:

    ttc run --config=study:probe --workdir=runs/study --config.generator.path=...
    ttc run --config=study:vote --workdir=runs/study --config.generator.path=...

small_prm, small_probe and small_vote are the same on 20 questions with up to 4 generations;
hours_probe is what two cores do in hours with a generator of 0.5B. The task is gsm8k, math, aime24,
gpqa, another of `ttc_jax.tasks` or one of your own; --config.task.path=FILE.jsonl has questions of
your own with their answers. Every field of a stage can be set by a flag
(--config.stage.search.sweep.seeds=0,1), and stages can be left out (--config.stages=search,report).
With a larger model's greedy answers beside it, the page compares at equal FLOPs:

    --config.stages=search,large,policy,report --config.stage.large.generator.path=... \
        --config.stage.policy.flops_match.large=stage:large \
        --config.stage.policy.flops_match.scale=5
"""

from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "prm": ("run", "search with a public PRM, policy, report (the default)"),
    "probe": ("run", "samples, a probe that learns from them, and then the same"),
    "vote": ("run", "no verifier: answers vote; report"),
    "small_prm": ("run", "prm on 20 questions, up to 4 generations"),
    "small_probe": ("run", "probe on 20 questions, up to 4 generations"),
    "small_vote": ("run", "vote on 20 questions, up to 4 generations"),
    "hours_probe": ("run", "probe on 100 questions, up to 16 generations: in hours on two cores"),
}

_STORAGE = {"dtype": "bfloat16", "weights": "", "cache": ""}
# Sections that stages share: a flag for one of these is meant by all of them.
_SHARED = ("task", "prompt", "generator", "thinking")


def get_config(variant: str = "prm") -> ConfigDict:
    size, _, kind = variant.rpartition("_")
    small = size == "small"
    config = ConfigDict({"job": "run"})
    config.task = {"name": "gsm8k", "path": "", "train_path": "", "unboxed": True}
    config.generator = {"path": "Qwen/Qwen2.5-1.5B-Instruct", "tokenizer": "", **_STORAGE}
    verifier = {"prm": "Qwen/Qwen2.5-Math-PRM-7B", "probe": "stage:probe", "vote": ""}[kind]
    config.verifier = {"path": verifier, **_STORAGE}
    if kind == "probe":
        config.verifier["dtype"] = "float32"  # as it is trained
    config.prompt = {
        "template": "{question}\n\nSolve the problem step by step, with a blank line between "
        "steps, and put the final answer in \\boxed{}.",
        "chat": True,
        "system": "",
        "shots": (),
        "stop": "",
        "revision": "",
        "chat_template_kwargs": "",
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
    config.step_delimiter = "\n\n"
    config.sampling = {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "max_new_tokens": 512}
    config.limit = 20 if small else 500  # test questions
    config.budgets = (1, 2, 4) if small else (4, 16, 64, 256)
    config.stages = {
        "prm": ("search", "policy", "report"),
        "probe": ("samples", "probe", "search", "policy", "report"),
        "vote": ("search", "report"),
    }[kind]
    search = _search(config, small, scored=kind != "vote")
    config.stage = {
        "samples": _samples(config, small),
        "probe": _probe(config),
        "search": search,
        "large": _large(config),
        "policy": _policy(small, scored=kind != "vote"),
        "report": _report(scored=kind != "vote"),
    }
    _share(config)
    if size == "hours":
        _shorten(config)
    return config


def _shorten(config: ConfigDict) -> None:
    """Leaves what two cores do in hours, and what some hundred questions can tell apart."""
    config.limit, config.budgets = 100, (1, 2, 4, 8, 16)
    search, policy = config.stage.search, config.stage.policy
    config.stage.samples.sampling.n = search.sweep.difficulty.samples = 8
    del search.sweep.strategies.dvts_4
    del policy.policy.budgets  # else it would stay those of the sweep
    policy.policy.update({"samples": 4, "bins": 3, "budgets": (4, 8, 16)})
    policy.flops_match.update({"ratios": (0.16,), "formula": "arxiv"})


def _share(config: ConfigDict) -> None:
    """Lets stages mean the same by what all of them have."""
    for stage in ("samples", "search", "large"):
        for field in ("temperature", "top_k", "top_p", "max_new_tokens"):
            if (stage, field) != ("large", "temperature"):  # which is greedy
                config.stage[stage].sampling[field] = config.sampling.get_ref(field)
    for stage in ("samples", "probe", "search", "large"):
        for section in _SHARED:
            if section in config.stage[stage] and (stage, section) != ("large", "generator"):
                config.stage[stage][section] = config[section]
        config.stage[stage].step_delimiter = config.get_ref("step_delimiter")
    for field in ("path", "tokenizer", "dtype"):
        config.stage.probe.start[field] = config.generator.get_ref(field)
    config.stage.search.verifier = config.verifier
    for stage in ("search", "large"):
        config.stage[stage].limit = config.get_ref("limit")
    config.stage.search.sweep.budgets = config.get_ref("budgets")
    config.stage.policy.policy.budgets = config.get_ref("budgets")


def _answers(config: ConfigDict, split: str, limit: int, n: int) -> dict[str, Any]:
    """N answers to each question of a split."""
    return {
        "job": "run",
        "seed": 0,
        "task": {},
        "split": split,
        "limit": limit,
        "prompt": {},
        "thinking": {},
        "generator": {},
        "verifier": {"path": "", **_STORAGE},
        "execution": {
            "rows": 64,  # candidates decoded together, over all questions of a batch
            "lanes": 0,
            "refill": True,
            "segment": 1,
            "cache": "",
            "mesh": {"data": 1, "model": 1},
        },
        "sampling": {"n": n, **config.sampling},
        "step_delimiter": "",
        "search": {
            "strategy": "best_of_n",
            "options": {},
            "judge": "",  # who chooses from the candidates: pick:generator, ...; "": they vote
            "lookahead": 0,
            "max_step_tokens": 128,
            "rounds": 40,
            "revisions": 1,
            "trees": 0,
        },
        "selection": {"aggregation": "last", "subsets": 16},
    }


def _samples(config: ConfigDict, small: bool) -> dict[str, Any]:
    """What the probe learns from: answers to training questions, right and wrong."""
    return _answers(config, "train", limit=20 if small else 2000, n=4)


def _probe(config: ConfigDict) -> dict[str, Any]:
    """Whether each answer is right, told at the end of each of its steps."""
    return {
        "job": "train",
        "kind": "outcome_probe",
        "seed": 0,
        "task": {},
        "split": "train",
        "prompt": {},
        "step_delimiter": "",
        "start": {"path": "", "tokenizer": "", "dtype": ""},
        "data": {"path": "stage:samples", "held_out": 0.1},
        "train": {"batch_tokens": 8192, "lengths": (256, 512, 768, 1024, 1536)},
    }


def _search(config: ConfigDict, small: bool, scored: bool) -> dict[str, Any]:
    """All strategies at equal numbers of generations; test questions are seen here alone."""
    found = _answers(config, "test", 0, n=4)
    found["selection"] = {**_selection(scored), "subsets": 16 if small else 512}
    found["job"] = "sweep"
    found["search"] |= {"trees": 8}  # questions, the first ones, whose search trees are kept
    strategies = {"best_of_n": _entry("best_of_n")}
    if scored:
        strategies |= {"beam_4": _entry("beam", width=4), "dvts_4": _entry("dvts", width=4)}
    found["sweep"] = {
        "budgets": (),
        "seeds": (0,),
        "difficulty": {"samples": 4 if small else 64, "seed": 1000},  # these are not scored
        "strategies": strategies,
    }
    return found


def _large(config: ConfigDict) -> dict[str, Any]:
    """A larger model's greedy answers to the same questions."""
    found = _answers(config, "test", 0, n=1)
    found["generator"] = {"path": "", "tokenizer": "", **_STORAGE}
    found["sampling"]["temperature"] = 0.0
    return found


def _policy(small: bool, scored: bool) -> dict[str, Any]:
    """The best strategy by difficulty and budget, chosen and judged on different questions."""
    return {
        "job": "policy",
        "seed": 0,
        "data": {"path": "stage:search"},
        "selection": {**_selection(scored), "subsets": 512},
        "policy": {
            "difficulty": "few"
            if scored
            else "oracle",  # of the policy that is written; all kinds are reported
            "samples": 2 if small else 8,  # that tell few's difficulty
            "bins": 2 if small else 5,
            "edges": (),
            "budgets": (),
            "unit": "generations",  # that budgets count, or "tokens"
            "only": (),  # strategies to choose from, besides the baseline; none: all
            "baseline": "best_of_n",
            "pools": ("best_of_n",),
            "resamples": 1000,
        },
        "flops_match": {
            "large": "",
            "scale": 14.0,
            "ratios": (0.16, 0.79, 22.0),
            "formula": "iclr",
        },
    }


def _report(scored: bool) -> dict[str, Any]:
    """The page."""
    return {
        "job": "report",
        "title": "Test-time compute study",
        "data": {
            "search": "stage:search",
            "policy": "stage:policy",  # without that stage, none
            "chains": "",
            "ratios": "",
            "verifiers": "",
        },
        "own": "",  # a task of one's own that the search's summary may name
        "selection": {**_selection(scored), "subsets": 512},
    }


def _selection(scored: bool) -> dict[str, str]:
    """How the final answer is chosen."""
    return {"rule": "best_of_n_weighted" if scored else "majority", "aggregation": "last"}


def _entry(strategy: str, **options: int) -> dict[str, Any]:
    """A strategy of the sweep, with its models."""
    return {
        "strategy": strategy,
        "lookahead": 0,
        "ratio": 0.0,
        "generator": "",
        "verifier": "",
        "options": options,
    }
