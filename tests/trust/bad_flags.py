"""Bad command lines and configs: flags, files, variants, ranges, and what does not go together."""

from __future__ import annotations

from tests.trust.row import (
    COLLECT,
    COMPILE,
    FIFO,
    FOLDER,
    FOLLOW,
    GSM8K,
    MATH,
    POLICY,
    REPORT,
    RUN,
    SFT,
    SOLVE,
    STAGES,
    SWEEP,
    TRAIN,
    A,
    BadInput,
    rows,
    with_file,
)

FLAGS = [
    *rows(
        "",
        ("rnu", "did you mean run?"),
        ("jump", "unknown job 'jump'"),
        ("../run", "unknown job"),
        ("--workdir=x run", "the job comes first"),
        ("run", "--config is missing"),
        (f"run --config={A}:best_of_n", "--workdir is missing"),
        (f"run --config={A}:best_of_n --workdir=", "--workdir is missing"),
        ("run --config", "config"),
        (f"policy --config={A}:policy", "--workdir is missing"),
        (f"report --config={A}:report", "--workdir is missing"),
    ),
    *rows(
        RUN,
        ("--confg.seed=1", "--confg.seed"),
        ("--seed=1", "unknown flag --seed"),
        ("--wrkdir=x", "did you mean --workdir?"),
        ("--config.sede=1", "did you mean --config.seed?"),
        ("--config.sampling=3", "is a section"),
        ("--config.sampling.m=3", "--config.sampling.m"),
        ("--config.=3", "--config."),
        ("--config.seed", "config.seed"),
        ("--config.seed=", "--config.seed="),
        ("--config.seed=one", "expected int"),
        ("--config.seed=1.5", "--config.seed=1.5"),
        ("--config.seed=1e3", "--config.seed=1e3"),
        ("--config.sampling.temperature=hot", "expected float"),
        ("--config.execution.refill=perhaps", "--config.execution.refill"),
        ("--config.task.size=many", "--config.task.size=many"),
        ("--config.execution.mesh.data=two", "--config.execution.mesh.data=two"),
        ("surplus", "unexpected argument 'surplus'"),
        ("-- --config.seed=1", "unexpected argument"),
        ("--hosts=0", "--hosts"),
        ("--hosts=-1", "--hosts"),
        ("--hosts=two", "--hosts"),
        ("--hosts=2", "--coordinator"),
        ("--hosts=2 --host=2 --coordinator=localhost:1234", "--host"),
        ("--hosts=2 --host=-1 --coordinator=localhost:1234", "--host"),
        ("--hosts=2 --host=x --coordinator=localhost:1234", "--host"),
        ("--hosts=2 --host=0 --coordinator=localhost", "--coordinator"),
        ("--hosts=2 --host=0 --coordinator=localhost:http", "--coordinator"),
        ("--hosts=2 --host=0 --coordinator=localhost:70000", "--coordinator"),
        ("--hosts=2 --host=0 --coordinator=:1", "--coordinator"),
        ("--hosts_timeout=soon", "hosts_timeout"),
        ("--hosts_timeout=-1 --hosts=2 --coordinator=localhost:1234", "--hosts_timeout"),
        ("--hosts_timeout=nan --hosts=2 --coordinator=localhost:1234", "--hosts_timeout"),
        ("--hosts_timeout=inf --hosts=2 --coordinator=localhost:1234", "--hosts_timeout"),
        # Names and texts that no terminal or file should hold.
        ("--config.generator.path=a\x00b", "zero byte"),
        ("--config.split='te\x1b[2Jst'", "split"),
        ("--config.split=te\udcffst", "no Unicode text"),
        ("--config.prompt.template=\ud800", "no Unicode text"),
        ("--workdir='a\x07b'", "control character"),
        ("--workdir='a\nb'", "control character"),
        ("--workdir=a\u2028b", "control character"),
        ("--workdir=\udc80", "no Unicode text"),
        ("\udcff", "no Unicode text"),
    ),
    *rows(
        SOLVE,
        ("more", "unexpected argument 'more'"),
        ("--config.questions=q.txt", "there is a question as argument too"),
        ("--config.own=3 --config.json=maybe", "--config.json"),
    ),
    *rows(
        COMPILE,
        ("--prompt=0", "--prompt=0"),
        ("--prompt=-1", "--prompt=-1"),
        ("--prompt=many", "--prompt=many"),
        ("--prompt=1e3", "--prompt=1e3"),
        ("--topology=v99:2x2", "v99"),
        ("--topology=", "--topology"),
        ("--topology=v5e:0x4", "--topology"),
        ("--topology=v5e:axb", "--topology"),
        ("--stage=search", "--stage"),
        ("--hlo=gs://bucket/a", "--hlo"),
        ("--json=s3://bucket/a", "--json"),
    ),
]

CONFIGS = [
    *rows(
        "run --workdir=work",
        ("--config=missing.py", "no such file"),
        ("--config=configs", "no such file"),
        (f"--config={A}:bset_of_n", "must be one of"),
        (f"--config={A}:best_of_n:beam", "must be one of"),
        ("--config=configs/tpu.py:x", "configs/tpu.py"),
        ("--config=configs/tpu.py:llama3.2-1b", "configs/tpu.py"),
        ("--config='a\nb.py'", "control character"),
        ("--config=~nobody/a.py", "no such file"),
        (f"--config={'x' * 300}.py", "file name too long"),
    ),
    *with_file(
        "run --config=c.py --workdir=work",
        "c.py",
        (
            ("", "defines no get_config()"),
            ("get_config = 3\n", "get_config"),
            ("def get_config(:\n", "c.py"),
            ("\tx = 1\n  y = 2\n", "c.py"),
            (b"\x80\x81\xfe", "c.py"),
            (b"x = 1\x00\n", "c.py"),
            ("1 / 0\n", "ZeroDivisionError"),
            ("import no_such_module_at_all\n", "no_such_module_at_all"),
            ("raise SystemExit(0)\n", "c.py"),
            ("raise RuntimeError('a\\nb')\n", "RuntimeError"),
            ("def get_config():\n    return {}\n", "must return"),
            ("def get_config():\n    return None\n", "must return"),
            ("def get_config():\n    raise KeyError('task')\n", "KeyError"),
            ("def get_config():\n    return get_config()\n", "RecursionError"),
            ("def get_config(a, b):\n    return {}\n", "get_config"),
            (
                "from ml_collections import ConfigDict\nget_config = ConfigDict\n",
                "must be a function",
            ),
            (
                "from ml_collections import ConfigDict\n"
                "def get_config():\n    return ConfigDict({'seed': 0})\n",
                "c.py",
            ),
            (
                "from ttc_jax.config import load_config\n"
                "def get_config():\n"
                "    c = load_config('configs/countdown.py:best_of_n')\n"
                "    with c.unlocked():\n        del c.search\n"
                "    return c\n",
                "search",
            ),
            (
                "from ttc_jax.config import load_config\n"
                "def get_config():\n"
                "    c = load_config('configs/countdown.py:best_of_n')\n"
                "    with c.unlocked():\n        del c.generator.path\n"
                "    return c\n",
                "'path'",
            ),
            (FOLDER, "no such file"),
            (FIFO, "no such file"),
        ),
    ),
    *with_file(
        "run --config=c.txt --workdir=work", "c.txt", (("x", "not a Python file"), (b"\x00", "not"))
    ),
    # A config of another job.
    BadInput(f"sweep --config={A}:best_of_n --workdir=work", "sweep"),
    BadInput(f"run --config={A}:policy --workdir=work", "configs/countdown.py"),
    BadInput(f"train --config={A}:search --workdir=work", "configs/countdown.py"),
    BadInput(f"collect --config={A}:best_of_n --workdir=work", "a config of ttc run"),
    BadInput(f"policy --config={A}:best_of_n --workdir=work", "configs/countdown.py"),
    BadInput(f"report --config={A}:best_of_n --workdir=work", "configs/countdown.py"),
    BadInput(f"gather --config={A}:best_of_n --workdir=work", "configs/countdown.py"),
    BadInput(f"solve 1+1 --config={A}:best_of_n", "configs/countdown.py"),
    BadInput(f"solve 1+1 --config={A}:report", "configs/countdown.py"),
    BadInput(f"sweep --config={A} --workdir=work", "configs/countdown.py"),
]

_HUGE = "100000000000000000000"
RANGES = [
    *rows(
        RUN,
        *((f"--config.seed={x}", f"--config.seed={x}") for x in ("-1", "4294967296", _HUGE)),
        *((f"--config.task.size={x}", "--config.task.size=") for x in ("0", "-5", "1000000000")),
        ("--config.task.seed=-1", "--config.task.seed=-1"),
        ("--config.limit=-1", "--config.limit=-1"),
        *((f"--config.sampling.n={x}", "--config.sampling.n=") for x in ("0", "-1", _HUGE)),
        *(
            (f"--config.sampling.{name}={x}", f"--config.sampling.{name}=")
            for name in ("max_new_tokens",)
            for x in ("0", "-3", _HUGE)
        ),
        *(
            (f"--config.sampling.temperature={x}", "--config.sampling.temperature=")
            for x in ("-0.1", "nan", "inf", "-inf")
        ),
        *((f"--config.sampling.top_p={x}", "top_p") for x in ("0", "-1", "1.01", "nan", "inf")),
        *((f"--config.sampling.top_k={x}", "top_k") for x in ("-1", _HUGE)),
        *(
            (f"--config.search.{name}={x}", f"--config.search.{name}=")
            for name, values in {
                "lookahead": ("-1", _HUGE),
                "max_step_tokens": ("0", "-1"),
                "rounds": ("0", "-1"),
                "revisions": ("0", "-1"),
                "trees": ("-1",),
            }.items()
            for x in values
        ),
        *(
            (f"--config.execution.{flag}", f"--config.execution.{flag}")
            for flag in ("segment=0", "segment=-1", "lanes=-1", "rows=-3", f"rows={_HUGE}")
        ),
        ("--config.selection.aggregation=mean", "last"),
        ("--config.selection.aggregation=", "last"),
        ("--config.selection.subsets=0", "--config.selection.subsets=0"),
        *(
            (f"--config.execution.mesh.{x}", f"--config.execution.mesh.{x}")
            for x in ("data=0", "model=-1")
        ),
        ("--config.generator.dtype=float16", "float32, bfloat16"),
        ("--config.generator.weights=int4", "--config.generator.weights=int4"),
        ("--config.generator.cache=fp8", "--config.generator.cache=fp8"),
        ("--config.verifier.dtype=double", "--config.verifier.dtype=double"),
        ("--config.verifier.weights=x", "--config.verifier.weights=x"),
    ),
    *rows(
        SWEEP,
        *((f"--config.sweep.budgets={x}", "sweep.budgets") for x in ("0", "4,-1", "4,4", ",", "")),
        *((f"--config.sweep.seeds={x}", "sweep.seeds") for x in ("-1", "0,0", "", "a", "1.5")),
        ("--config.execution.rows=0", "--config.execution.rows=0"),
        ("--config.sweep.difficulty.samples=-1", "--config.sweep.difficulty.samples=-1"),
        ("--config.sweep.difficulty.seed=-1", "--config.sweep.difficulty.seed=-1"),
        ("--config.sweep.strategies.beam_4.lookahead=-1", "beam_4.lookahead=-1"),
        ("--config.sweep.strategies.beam_4.ratio=nan", "beam_4.ratio=nan"),
        ("--config.selection.rule=best", "majority"),
    ),
    *rows(
        COLLECT,
        *(
            (f"--config.rollouts.{name}={x}", f"--config.rollouts.{name}={x}")
            for name in ("ends", "rows_per_question")
            for x in ("0", "-1")
        ),
        ("--config.sampling.n=0", "--config.sampling.n=0"),
        ("--config.limit=-2", "--config.limit=-2"),
    ),
    *rows(
        TRAIN,
        *(
            (f"--config.train.{x}", f"--config.train.{x.partition('=')[0]}=")
            for x in (
                "steps=0",
                "learning_rate=0",
                "learning_rate=-0.1",
                "learning_rate=nan",
                "learning_rate=inf",
                "batch_tokens=0",
                "evaluate_every=0",
                "lengths=0",
                "lengths=",
                "lengths=64,64",
                "accumulate=0",
                "dropout=1",
                "dropout=-0.1",
                "dropout=nan",
                "compute_dtype=float64",
                "patience=-1",
                "past_best=-1",
            )
        ),
        *((f"--config.data.held_out={x}", "held_out") for x in ("0", "1", "-1", "nan", "2")),
        ("--config.model.ffn_width=0", "model.ffn_width=0"),
        ("--config.model.depth=-1", "model.depth=-1"),  # 0 is a verifier without layers
        ("--config.kind=prn", "--config.kind=prn"),
    ),
    *rows(
        SFT,
        *((f"--config.model.{x}=0", f"{x}=0") for x in ("width", "heads", "kv_heads", "context")),
    ),
    *rows(
        POLICY,
        *((f"--config.policy.bins={x}", "policy.bins") for x in ("0", "-1")),
        *((f"--config.policy.budgets={x}", "policy.budgets") for x in ("0", "", "4,4", "-4")),
        *(
            (f"--config.policy.edges={x}", "policy.edges")
            for x in ("0.1,0.5", "0.5,0.5", "2", "-1", "nan", "x")
        ),
        *((f"--config.policy.resamples={x}", "policy.resamples") for x in ("0", "9", "-1")),
        ("--config.policy.samples=0", "--config.policy.samples=0"),
        ("--config.policy.difficulty=guess", "oracle, predicted, few, question"),
        ("--config.selection.rule=most", "majority"),
        ("--config.selection.subsets=0", "--config.selection.subsets=0"),
        *((f"--config.flops_match.scale={x}", "flops_match.scale") for x in ("0", "nan", "0.5")),
        *((f"--config.flops_match.ratios={x}", "flops_match.ratios") for x in ("0", "nan", "-1")),
        ("--config.flops_match.formula=exact", "arxiv, iclr"),
    ),
    *rows(
        FOLLOW,
        ("--config.budget=0", "--config.budget=0"),
        ("--config.execution.rows=0", "--config.execution.rows=0"),
        ("--config.search.ratio=-1", "--config.search.ratio=-1"),
        ("--config.search.ratio=nan", "--config.search.ratio=nan"),
        ("--config.limit=-1", "--config.limit=-1"),
    ),
    *rows(SOLVE, ("--config.budget=-1", "budget=-1"), ("--config.selection.rule=x", "rule=x")),
    *rows(
        STAGES,
        ("--config.stage.search.seed=-1", "--config.stage.search.seed=-1"),
        ("--config.stage.policy.policy.bins=0", "--config.stage.policy.policy.bins=0"),
        ("--config.stage.chains.sampling.top_p=0", "--config.stage.chains.sampling.top_p=0"),
        ("--config.stages=search,no_such", "no_such"),
        ("--config.stages=policy,search", "stage"),
        ("--config.stage.search.job=swep", "job=swep"),
        ("--config.stage.policy.data.path=stage:report", "stage:report"),
        ("--config.stage.policy.data.path=stage:", "stage:"),
        ("--config.stages=", "stages"),
    ),
    *rows(REPORT, ("", "config.data names no workdir")),
]

CROSS = [
    *rows(
        RUN,
        ("--config.execution.mesh.data=9", "devices"),
        ("--config.execution.mesh.model=1000", "devices"),
        ("--config.execution.mesh.data=2 --config.execution.lanes=3", "execution.lanes is 3"),
        ("--config.search.strategy=beem", "search.strategy: 'beem'"),
        ("--config.search.strategy=", "search.strategy: ''"),
        ("--config.search.judge=pick", "search.judge=pick: is no judge"),
        ("--config.search.judge=judge:generator", "it is a verifier; name it by verifier.path"),
        ("--config.verifier.path=merge:generator", "name it by search.judge"),
        ("--config.search.strategy=beam --config.sampling.n=6", "does not divide sampling.n=6"),
        ("--config.search.strategy=dvts --config.sampling.n=2", "sampling.n=2"),
        ("--config.search.strategy=beam --config.verifier.path=", "needs a verifier"),
        ("--config.search.lookahead=1", "search.lookahead"),
        ("--config.split=tset", "tset"),
        ("--config.split=", "split"),
        ("--config.task.name=countdwn", "did you mean 'countdown'?"),
        ("--config.task.name=", "unknown task ''"),
        ("--config.task.name=gsm8k", "gsm8k has no such field"),
        ("--config.task.name=humaneval", "humaneval has no such field"),
        ("--config.prompt.template=fixed", "prompt template"),
        ("--config.prompt.template='{problem}'", "prompt template"),
        ("--config.prompt.template='{question'", "prompt template"),
        ("--config.prompt.template=", "prompt template"),
        ("--config.step_delimiter=", "step_delimiter"),
        ("--config.sampling.max_new_tokens=5000", "sampling.max_new_tokens"),
        ("--config.verifier.path=confidence:mood", "mood"),
        ("--config.verifier.path=confidence:", "verifier.path"),
        ("--config.verifier.path=flipped:x:embedded:prm", "flipped"),
        ("--config.verifier.path=flipped:0.1:", "flipped"),
        ("--config.verifier.path=embedded:prn", "embedded:prn"),
        ("--config.verifier.path=embedded:generator", "embedded:generator"),
        ("--config.verifier.path=embedded:../../x", "embedded:"),
        ("--config.generator.path=embedded:generater", "embedded:generater"),
        ("--config.generator.path=embedded:prm", "holds a prm, not a generator"),
        ("--config.generator.path=", "generator.path"),
    ),
    *rows(
        SWEEP,
        ("--config.sweep.budgets=5", "can spend none of sweep.budgets exactly"),
        ("--config.sweep.strategies.beam_4.strategy=beem", "beam_4"),
        ("--config.sweep.strategies.beam_4.options.width=-1", "beam_4"),
        ("--config.sweep.strategies.rebase.options.temperature=0", "rebase"),
        ("--config.sweep.difficulty.seed=0", "sweep.difficulty.seed=0 is one of sweep.seeds"),
        ("--config.verifier.path=", "needs a verifier"),
        ("--config.execution.mesh.data=16", "devices"),
    ),
    *rows(
        TRAIN,
        ("--config.start.path=", "start.path"),
        ("--config.start.path=embedded:none", "embedded:none"),
    ),
    *rows(
        SFT,
        ("--config.model.heads=3 --config.model.kv_heads=2", "heads"),
        ("--config.model.head_size=13", "even"),
        ("--config.model.depth=1000000", "depth"),
        ("--config.model.width=1000000000", "width"),
        ("--config.task.size=3 --config.data.held_out=0.01", "held_out"),
    ),
    *rows(FOLLOW, ("--config.policy.path=nowhere", "nowhere")),
    *rows(
        SOLVE,
        ("--config.verifier.path=", "verifier.path is empty"),
        ("--config.policy.path=nowhere", "no such file"),
        ("--config.task.name=none", "unknown task"),
    ),
    *rows(
        COMPILE,
    ),
    *rows(MATH, ("--config.task.path=nowhere.jsonl", "nowhere.jsonl: no such file")),
    *rows(
        GSM8K,
        ("--config.task.path=nowhere.jsonl", "nowhere.jsonl: no such file"),
        ("--config.task.train_path=a.jsonl --config.split=train", "a.jsonl: no such file"),
        ("--config.split=dev --config.task.path=x", "dev"),
    ),
]

OWN = "tests.trust.own:"
OWN_TASKS = [
    *rows(
        RUN.replace("best_of_n", "best_of_n").replace("--workdir", "--config.seed=0 --workdir"),
        *((f"--config.task.name={name}", "task.name") for name in ("a:", ":a", ":", "a:b:c")),
    ),
    *(
        BadInput(
            f"run --config=own.py --workdir=work --config.task.name={name}",
            named,
            {"own.py": _text},
        )
        for _text in (
            "from ttc_jax.config import load_config\n"
            "def get_config():\n"
            "    c = load_config('configs/countdown.py:best_of_n')\n"
            "    with c.unlocked():\n        del c.task.size, c.task.seed\n"
            "    return c\n",
        )
        for name, named in (
            ("tests.trust.nowhere:Task", "cannot be imported"),
            ("tests.trust.own_broken:Task", "ZeroDivisionError"),
            (f"{OWN}Nowhere", "cannot be imported"),
            (f"{OWN}NUMBER", "is no class"),
            ("builtins:dict", "builtins:dict"),
            ("builtins:int", "builtins:int"),
            (f"{OWN}NoQuestions", f"{OWN}NoQuestions has no method 'questions'"),
            (f"{OWN}NoJudge", f"{OWN}NoJudge has no method 'judge'"),
            (f"{OWN}JudgeIsText", "no method 'judge'"),
            (f"{OWN}NeedsMore", "'path'"),
            (f"{OWN}RaisesAtOnce", "RuntimeError: no licence found"),
            (f"{OWN}Leaves", "SystemExit"),
            (f"{OWN}RaisesInQuestions", f"{OWN}RaisesInQuestions.questions: KeyError"),
            (f"{OWN}DividesByZero", "ZeroDivisionError"),
            (f"{OWN}Recurses", "RecursionError"),
            (f"{OWN}Empty", "returned no questions"),
            (f"{OWN}NoList", "must return a list of Question, not None"),
            (f"{OWN}Generates", "type generator"),
            (f"{OWN}Dictionary", "type dict"),
            (f"{OWN}Texts", "type str"),
            (f"{OWN}Rows", "type dict"),
            (f"{OWN}Twice", "'one' twice"),
            (f"{OWN}NumberAsAnswer", "its answer is int"),
            (f"{OWN}ControlInId", "control character"),
            (f"{OWN}HalfPair", "no Unicode text"),
            (f"{OWN}TakesNoSplit", "TypeError"),
        )
    ),
]

OWN_STRATEGIES = rows(
    RUN,
    *(
        (f"--config.sampling.n=4 --config.search.strategy={name}", named)
        for name, named in (
            ("tests.trust.nowhere:Beam", "cannot be imported"),
            ("tests.trust.own_broken:Beam", "ZeroDivisionError"),
            (f"{OWN}Nowhere", "cannot be imported"),
            (f"{OWN}NUMBER", "is no class"),
            (f"{OWN}NoStrategy", "no subclass of Strategy"),
            ("builtins:dict", "no subclass of Strategy"),
            (f"{OWN}NoSelect", "NoSelect"),
            (f"{OWN}Unhashable", "frozen dataclass"),
            (f"{OWN}HashRaises", "HashRaises"),
            (f"{OWN}HoldsList", "HoldsList"),
            (f"{OWN}Beyond", "Beyond.select returned row 4 of 4"),
            (f"{OWN}Negative", "Negative.select returned row -1 of 4"),
            (f"{OWN}Finished", "Finished.select returned row"),
            (f"{OWN}Mask", "Mask.select must return 4 row numbers"),
            (f"{OWN}Scores", "Scores.select must return 4 row numbers"),
            (f"{OWN}OneRow", "OneRow.select must return 4 row numbers"),
            (f"{OWN}Fewer", "Fewer.select must return 4 row numbers"),
            (f"{OWN}Nothing", "Nothing.select must return 4 row numbers"),
            (f"{OWN}Pair", "Pair.select must return 4 row numbers"),
            (f"{OWN}Sorts", "Sorts.select: "),
            (f"{OWN}Branches", "Branches.select: "),
            (f"{OWN}Misspelled", "Misspelled.select: AttributeError"),
            (f"{OWN}TwoArguments", "TwoArguments.select: TypeError"),
            (f"{OWN}CheckRaises", "CheckRaises.check: AssertionError"),
            (f"{OWN}InitRaises", "InitRaises: ValueError: width is odd"),
        )
    ),
)
BAD = [*FLAGS, *CONFIGS, *RANGES, *CROSS, *OWN_TASKS, *OWN_STRATEGIES]
