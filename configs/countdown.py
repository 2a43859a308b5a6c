r"""The embedded task Countdown: everything on a laptop, from training to the report.

    ttc run --config=countdown --workdir=runs/quickstart

compares search strategies on 100 test questions with the shipped models, fits the compute-optimal
policy, revises, sets it all against a model 14 times larger, and writes it on one page. The same on
1,000 questions, with three seeds and all that the paper compares, takes hours on two cores:

    ttc run --config=countdown:paper --workdir=runs/paper

With models of one's own training, and seeds to tell these studies apart, it is

    ttc run --config=countdown:paper --workdir=runs/paper-1 \
        --config.models=runs/assets-1/models/ --config.stage.search.sweep.seeds=10,11,12

A stage of these also runs alone. This one compares all strategies at equal budgets:

    ttc sweep --config=countdown:search --workdir=runs/search

    ttc solve "03 08 12 25=61:" --config=countdown:solve

answers a question of one's own; --config.policy.path=runs/policy spends its budget as is best for
its difficulty.

    ttc run --config=countdown:assets --workdir=runs/assets

trains all models that ship from nothing, in hours on two cores. It goes on where it was stopped,
and sees no test question. Its stages run alone as well, such as

    ttc train --config=countdown:generator --workdir=runs/generator
    ttc collect --config=countdown:rollouts --workdir=runs/rollouts
    ttc train --config=countdown:prm --workdir=runs/prm --config.data.path=runs/rollouts

All verifiers are as large as the generator, which they are built on.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ml_collections import ConfigDict

VARIANTS = {
    "quickstart": ("run", "search, policy, revisions, report: in minutes (the default)"),
    "paper": ("run", "the same on 1,000 questions, three seeds, up to 256 generations: in hours"),
    "kept": ("run", "the figures of docs/results again, from outcomes of `paper` that were kept"),
    "best_of_n": ("run", "64 answers to each of 300 test questions"),
    "beam": ("run", "beam search with M=4 and N=16, on the same questions"),
    "search": ("sweep", "every strategy at 4, 16, 64 and 256 generations, two seeds"),
    "verifiers": ("sweep", "PRM, ORM, probe and a PRM that errs, from the same samples"),
    "chains": ("run", "four chains of 16 revisions of each question"),
    "ratios": ("sweep", "revisions in sequence against in parallel, 16 and 64 answers"),
    "policy": ("policy", "the best strategy by difficulty and budget, from the sweep `search`"),
    "compute_optimal": ("run", "each validation question as a policy says for its difficulty"),
    "solve": ("solve", "answers to questions of one's own, with a policy or without"),
    "report": ("report", "a page with figures, tables and search trees of what the others found"),
    "assets": ("run", "all models that ship, from nothing, with their manifest"),
    "generator": ("train", "the generator, on worked solutions"),
    "medium": ("train", "4 times its parameters, on the same tokens"),
    "large": ("train", "14 times its parameters, on the same tokens"),
    "rollouts": ("collect", "step values: 4 rollouts from each step of 4 answers"),
    "prm": ("train", "a PRM on Monte-Carlo values"),
    "orm": ("train", "an ORM on the correctness of answers"),
    "probe": ("train", "a probe of the generator's hidden states on Monte-Carlo values"),
    "revision": ("train", "a model that revises, on pairs built from parallel samples"),
    "revision_orm": ("train", "an ORM that sees earlier answers, on chains of revisions"),
    "rest_em": ("train", "the ReST^EM variant, on chains that got to a correct answer"),
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
# Devices: questions, or rows of a training batch, are split over `data`, each model over `model`.
_MESH = {"mesh": {"data": 1, "model": 1}}
# weights and cache: "int8", or "" for dtype, which is what is computed in.
_STORAGE = {"dtype": "float32", "weights": "", "cache": ""}
# Buckets of examples, tokens: worked solutions take 71 at most, answers of a model 78, and those
# behind four others 318.
_LENGTHS = (32, 48, 64, 80)
_LONG_LENGTHS = (*_LENGTHS, 144, 208, 272, 336)


def get_config(variant: str = "quickstart") -> ConfigDict:
    config = globals()[f"_{variant}"](_base())
    config.job, _ = VARIANTS[variant]
    return config


def _base() -> ConfigDict:
    """What all variants share."""
    config = ConfigDict()
    config.seed = 0
    config.task = {"name": "countdown", "size": 300, "seed": 0}
    config.prompt = {"template": "{question}"}
    return config


def _with_models(config: ConfigDict) -> ConfigDict:
    """One flag for the folder of all models: of another training seed, for instance."""
    config.models = "embedded:"
    sections = [config]
    for section in sections:
        for name, value in section.items():
            if isinstance(value, ConfigDict):
                sections.append(value)
            elif isinstance(value, str) and "embedded:" in value and section is not config:
                before, _, model = value.partition("embedded:")
                section[name] = before + (config.get_ref("models") + model)
    return config


def _stages(config: ConfigDict, **stages: ConfigDict | dict[str, Any]) -> ConfigDict:
    """Done in this order; see ttc_jax.experiments.stages. One flag sets the seed of all."""
    config.stages, config.stage = tuple(stages), ConfigDict(stages)
    for name in stages:
        if "seed" in config.stage[name]:
            # A reference of its own, so that a flag for one stage changes no other.
            config.stage[name].seed = config.get_ref("seed") + 0
    return config


def _stage(job: str, like: Callable[[ConfigDict], ConfigDict], **fields: Any) -> ConfigDict:
    """A job's config with fields changed; dots of a field are `__` in a keyword."""
    found = like(_base())
    found.job = job
    found.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return found


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


# The study


def _paper(config: ConfigDict) -> ConfigDict:
    """All that the paper compares, and strategies of its successors."""
    size = {"task__size": 1000}
    config = _stages(
        config,
        search=_stage("sweep", _search, **size, sweep__seeds=(0, 1, 2), search__trees=8),
        large=_stage("run", _large_greedy, **size),
        policy=_stage("policy", _policy, **_OF_STAGES),
        verifiers=_stage("sweep", _verifiers, **size),
        chains=_stage("run", _chains, **size),
        ratios=_stage("sweep", _ratios, **size),
        report=_stage("report", _report, **_of(*_SHOWN)),
    )
    return _with_models(config)


def _quickstart(config: ConfigDict) -> ConfigDict:
    """The whole of it on 100 questions, with fewer strategies, budgets and samples."""
    few, budgets = {"limit": 100}, (4, 16, 64)
    search = _stage(
        "sweep",
        _search,
        **few,
        search__trees=8,
        sweep__budgets=budgets,
        sweep__seeds=(0,),
        sweep__difficulty__samples=16,
    )
    for name in set(search.sweep.strategies) - {"best_of_n", "beam_4"}:
        del search.sweep.strategies[name]
    chains = {"sampling__n": 2, "search__revisions": 8, "execution__rows": 40}
    config = _stages(
        config,
        search=search,
        large=_stage("run", _large_greedy, **few),
        policy=_stage("policy", _policy, **_OF_STAGES, policy__budgets=budgets),
        chains=_stage("run", _chains, **few, **chains),
        report=_stage("report", _report, **_of("search", "policy", "chains")),
    )
    return _with_models(config)


def _kept(config: ConfigDict) -> ConfigDict:
    """Policy and report from files that `ttc export --outcomes=best_of_n_weighted` wrote.

    Each of the folders may hold a file for every training seed, with sampling seeds of its own.
    """
    config = _stages(
        config,
        policy=_stage("policy", _policy, **_OF_STAGES),
        report=_stage("report", _report, **_of(*_SHOWN)),
    )
    config.kept = "docs/results/countdown/"
    report, policy = config.stage.report, config.stage.policy
    for name in ("search", "chains", "ratios", "verifiers"):
        report.data[name] = config.get_ref("kept") + name
    policy.data.path = config.get_ref("kept") + "search"
    policy.flops_match.large = config.get_ref("kept") + "large"
    report.sweep = {"strategies": _ratios(_base()).sweep.strategies}
    return config


# Fields of stages that read what others found (dots are `__`).
_OF_STAGES = {"data__path": "stage:search", "flops_match__large": "stage:large"}
_SHOWN = ("search", "policy", "chains", "ratios", "verifiers")


def _of(*stages: str) -> dict[str, str]:
    """Where a report finds what these stages left."""
    return {f"data__{name}": f"stage:{name}" for name in stages}


def _sampling(n: int) -> dict[str, Any]:
    """N answers to each question, at the temperature that validation questions chose."""
    return {"n": n, "temperature": 0.7, "top_k": 0, "top_p": 1.0, "max_new_tokens": 60}


def _best_of_n(config: ConfigDict) -> ConfigDict:
    config.split, config.limit = "test", 0  # limit 0: all questions
    # tokenizer: a folder, .gguf file or hub name of its own; "" for the one that lies in path.
    config.generator = {"path": "embedded:generator", "tokenizer": "", **_STORAGE}
    config.verifier = {"path": "embedded:prm", **_STORAGE}
    config.execution = {
        "rows": 1280,
        "lanes": 0,
        "refill": True,
        "segment": 1,
        "cache": "",
        **_MESH,
    }
    config.sampling = _sampling(64)
    config.step_delimiter = "\n"
    config.search = {
        "strategy": "best_of_n",
        "options": {},
        "judge": "",
        "lookahead": 0,
        "max_step_tokens": 24,
        "rounds": 10,
        "revisions": 1,
        "trees": 0,  # questions, the first of the split, whose search trees are kept
    }
    config.selection = {"aggregation": "last", "subsets": 512}
    return config


def _beam(config: ConfigDict) -> ConfigDict:
    """Any strategy is switched on like this; its options are the fields of its class."""
    config = _best_of_n(config)
    config.sampling.n, config.execution.rows = 16, 320
    config.search.strategy, config.search.options = "beam", {"width": 4}
    return config


def _search(config: ConfigDict) -> ConfigDict:
    """The strategies of paper section 5 and of its successors, at equal budgets."""
    config = _best_of_n(config)
    config.selection.rule = "best_of_n_weighted"
    config.execution.rows = 1024
    config.sweep = {
        "budgets": (4, 16, 64, 256),
        "seeds": (0, 1),
        "difficulty": {"samples": 64, "seed": 1000},  # for the bins; these are not scored
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


def _large_greedy(config: ConfigDict) -> ConfigDict:
    """What the model 14 times larger answers at once."""
    config = _best_of_n(config)
    config.generator.path, config.verifier.path = "embedded:large", ""
    config.sampling.n, config.sampling.temperature = 1, 0.0
    config.execution.rows = 20
    return config


def _policy(config: ConfigDict) -> ConfigDict:
    """Five bins, chosen and judged on different halves of the questions (paper section 3.2)."""
    config.data = {"path": "runs/search"}
    config.selection = {"rule": "best_of_n_weighted", "aggregation": "last", "subsets": 512}
    config.policy = {
        "difficulty": "few",  # of the policy that is written; all kinds are reported
        "samples": 4,  # that tell few's difficulty
        "bins": 5,
        "edges": (),  # absolute bins instead, such as 0.5,0.1: bounds of the difficulty
        "budgets": (4, 16, 64, 256),
        "unit": "generations",  # that budgets count, or "tokens"
        "only": (),  # strategies to choose from, besides the baseline; none: all
        "baseline": "best_of_n",
        "pools": ("best_of_n",),  # whose candidates are independent
        "resamples": 1000,
    }
    config.flops_match = {
        "large": "",  # the run of a larger model's greedy answers to the same questions
        "scale": 14.0,  # its parameters, times those of the small one
        "ratios": (0.16, 0.79, 22.0),  # tokens inferred over tokens trained on (paper section 7)
        "formula": "arxiv",  # or iclr, which charges the verifier
    }
    return config


def _solve(config: ConfigDict) -> ConfigDict:
    """Without a policy all questions are answered as the section `search` says."""
    config = _compute_optimal(config)
    del config.split, config.limit
    config.task = {"name": "countdown"}  # how final answers are read
    config.questions = ""  # a file with a question a line, or JSON lines
    config.json = False  # whether to print a JSON object a question
    config.policy.path = ""
    config.execution.rows = 320  # 20 questions at 16 generations
    return config


def _compute_optimal(config: ConfigDict) -> ConfigDict:
    """A policy on questions that had no part in fitting it."""
    config = _best_of_n(config)
    del config.sampling.n
    del config.search.revisions, config.search.trees, config.selection.subsets
    config.split, config.task.size = "validation", 500
    config.policy = {"path": "runs/policy"}  # what `ttc policy` wrote: its workdir, or policy.json
    # Strategies of one's own, "package.module:Class" with commas, that the policy's file may name.
    config.own = ""
    config.budget = 16  # generations a question
    config.execution.rows = 1024
    config.search.ratio = 0.0  # of sequential to parallel answers, where the generator revises
    config.selection.rule = "best_of_n_weighted"
    return config


def _report(_: ConfigDict) -> ConfigDict:
    """What is named shows; "" for what was not run. Any search will do, with trees or without."""
    config = ConfigDict()
    config.title = "Test-time compute on embedded Countdown"
    config.data = {
        "search": "runs/search",
        "policy": "runs/policy",
        "chains": "",
        "ratios": "",
        "verifiers": "",
    }
    # A task of one's own, "package.module:Class", that the search's summary may name.
    config.own = ""
    # How answers are chosen where data.search is a file of samples scored elsewhere.
    config.selection = {"rule": "best_of_n_weighted", "aggregation": "last", "subsets": 512}
    return config


def _verifiers(config: ConfigDict) -> ConfigDict:
    """Which verifier chooses best, as N grows (paper, appendix on ORMs), and how errors hurt.

    Majority and other aggregations come from the same records: --config.selection.rule=majority.
    """
    config = _search(config)
    config.sweep.budgets = (1, 2, 4, 8, 16, 32, 64)
    config.sweep.strategies = {
        "best_of_n": _entry("best_of_n"),
        "orm": _entry("best_of_n", verifier="embedded:orm"),
        "probe": _entry("best_of_n", verifier="embedded:probe"),
        "prm_fifth_flipped": _entry("best_of_n", verifier="flipped:0.2:embedded:prm"),
        "log_probability": _entry("best_of_n", verifier="confidence:log_prob"),
    }
    config.sweep.seeds = (0,)
    return config


def _chains(config: ConfigDict) -> ConfigDict:
    """Accuracy along a chain, past the four answers that the model was taught to look back on."""
    config = _best_of_n(config)
    config.generator.path, config.verifier.path = "embedded:revision", "embedded:revision_orm"
    config.sampling.n, config.search.revisions = 4, 16
    config.execution.rows = 80
    return config


def _ratios(config: ConfigDict) -> ConfigDict:
    """The ratio grid of paper section 6.2: s = √(N · ratio) answers in each of N / s chains."""
    config = _search(config)
    config.sweep.budgets, config.sweep.seeds = (16, 64), (0,)
    revise: dict[str, Any] = {
        "generator": "embedded:revision",
        "verifier": "embedded:revision_orm",
    }
    config.sweep.strategies = {"best_of_n": _entry("best_of_n")}
    for ratio in [Fraction(4) ** power for power in range(-3, 4)]:
        name = f"sequential_{ratio.numerator}_to_{ratio.denominator}"
        config.sweep.strategies[name] = _entry("best_of_n", ratio=float(ratio), **revise)
    return config


# The models


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


def _rollouts(config: ConfigDict) -> ConfigDict:
    """What verifiers learn from: questions that the generator has not seen in training."""
    config.task.size, config.task.seed = 32_000, 1
    config.split, config.limit = "train", 0
    config.generator = {"path": "embedded:generator", "tokenizer": "", **_STORAGE}
    config.sampling = _sampling(4)
    config.step_delimiter = "\n"
    config.execution = {"rows": 1024, **_MESH}
    config.rollouts = {"ends": 4, "rows_per_question": 16}
    return config


def _on_records(config: ConfigDict, kind: str, path: str) -> ConfigDict:
    """Ten percent of the questions are held out (paper section 2)."""
    config.kind, config.split = kind, "train"
    config.task.seed, config.task.size = 1, 32_000  # those of the collection
    config.start = {"path": "embedded:generator", "tokenizer": ""}
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
    """A head on the generator's own layers, all of which learn.

    On validation questions more of both, answers and steps, still made every search better.
    """
    config = _on_records(config, "prm", "runs/rollouts")
    config.train.steps, config.train.evaluate_every, config.train.patience = 8000, 500, 4
    config.model = {"depth": 0, "ffn_width": 128, "reads_tokens": False}
    return config


def _orm(config: ConfigDict) -> ConfigDict:
    """The PRM's network on the outcomes of many samples, which cost less than rollouts.

    Of so many outcomes it learns too much by heart in more steps.
    """
    config = _prm(config)
    config.kind, config.data.path = "orm", "runs/samples"
    config.task.seed, config.task.size = 2, 4000
    config.train.steps, config.train.evaluate_every, config.train.patience = 1500, 250, 0
    return config


def _revision(config: ConfigDict) -> ConfigDict:
    """Kept slightly after the validation loss is lowest: that loss is off-policy and misleads.

    A quarter of the pairs repeat a correct answer, which the paper's do not: see
    `ttc_jax.training.revision`.
    """
    config = _on_records(config, "revision", "runs/samples")
    config.task.seed, config.task.size = 2, 4000
    config.data.per_question, config.data.kept = 16, 0.25
    config.train.learning_rate, config.train.lengths = 1e-3, _LONG_LENGTHS
    config.train.steps, config.train.past_best = 3000, 1
    return config


def _revision_orm(config: ConfigDict) -> ConfigDict:
    """On what the model that revises wrote, which a verifier of first answers judges badly."""
    config = _orm(config)
    config.task.seed, config.task.size = 3, 2000
    config.start.path, config.data.path = "embedded:revision", "runs/chains"
    config.train.lengths = _LONG_LENGTHS
    return config


def _probe(config: ConfigDict) -> ConfigDict:
    """A vector of the generator's width, which is solved for: there are no steps to set."""
    config = _on_records(config, "probe", "runs/rollouts")
    config.train = {"batch_tokens": 16384, "lengths": _LENGTHS}
    del config.execution
    return config


def _rest_em(config: ConfigDict) -> ConfigDict:
    """On chains of the base model."""
    config = _on_records(config, "rest_em", "runs/base-chains")
    config.data.per_length = 2000
    config.train.learning_rate, config.train.lengths = 1e-3, _LONG_LENGTHS
    return config


def _assets(config: ConfigDict) -> ConfigDict:
    """Everything that ships, stage by stage; no stage sees a test question."""
    unscored = {"verifier__path": "", "selection__subsets": 16}
    train = {"split": "train", "execution__rows": 1024, **unscored}
    on_generator = {"start__path": "stage:generator"}

    def size(name: str, train: Callable[[ConfigDict], ConfigDict]) -> dict[str, Any]:
        greedy = _stage(
            "run",
            _best_of_n,
            generator__path=f"stage:{name}",
            split="validation",
            task__size=500,
            sampling__n=1,
            sampling__temperature=0.0,
            execution__rows=64,
            **unscored,
        )
        return {name: _stage("train", train), f"{name}_greedy": greedy}

    # The longest trainings come last: everything else can be looked at before.
    stages: dict[str, Any] = size("generator", _generator)
    stages |= {
        "rollouts": _stage("collect", _rollouts, generator__path="stage:generator"),
        "prm": _stage("train", _prm, data__path="stage:rollouts", **on_generator),
        "probe": _stage("train", _probe, data__path="stage:rollouts", **on_generator),
        "samples": _stage(
            "run",
            _best_of_n,
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
            _best_of_n,
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
    stages |= size("medium", _medium) | size("large", _large)
    sizes = ("generator", "medium", "large")
    shipped = (*sizes, "prm", "orm", "probe", "revision", "revision_orm")
    stages["models"] = {
        "job": "gather",
        "models": {name: f"stage:{name}" for name in shipped},
        "measured": {
            **{name: {"greedy": f"stage:{name}_greedy"} for name in sizes},
            "revision": {"chains": "stage:chains"},
        },
        "megabytes": 12.0,
    }
    return _stages(config, **stages)
