"""Bad data: task files, models, policies, samples, records, summaries and workdirs."""

from __future__ import annotations

import json
from typing import Any

from tests.models.bad_configs import BAD as MODELS
from tests.models.small import CONFIGS
from tests.models.test_damaged_folders import NOT_JSON
from tests.trust.row import (
    COLLECT,
    FIFO,
    FOLDER,
    POLICY,
    REPORT,
    RUN,
    SOLVE,
    SWEEP,
    TRAIN,
    A,
    BadInput,
    Content,
    changed,
    rows,
    text,
    with_file,
)

_GSM8K = "run --config=configs/gsm8k.py:smollm2 --workdir=work --config.task.path=t.jsonl"
_MATH = "run --config=configs/math.py:smollm2 --workdir=work --config.task.path=t.jsonl"
_CODE = "run --config=configs/code.py:mbpp --workdir=work --config.task.path=t.jsonl"
_ADD = '{"task_id": 11, "prompt": "Add.", "test_list": ["assert add(1, 2) == 3"]}\n'
_LINE = '{"question": "1+1?", "answer": "2 #### 2"}\n'
_LINES: list[tuple[Content, str]] = [
    ("", "t.jsonl"),
    ("\n\n", "t.jsonl"),
    ("{", "t.jsonl:1: not JSON"),
    ("[]", "t.jsonl: no questions in it"),
    ("[{}, 3]", "t.jsonl:1: field"),
    ("[3]", "t.jsonl:1: expected a JSON object"),
    ("3", "t.jsonl:1: expected a JSON object"),
    ("null", "t.jsonl:1: expected a JSON object"),
    ('"a"', "t.jsonl:1: expected a JSON object"),
    ("{}", "t.jsonl:1: field"),
    (b"\xff\xfe{\x00}\x00", "t.jsonl:1: not JSON"),
    (b'{"question": "\xe9", "answer": "2"}', "t.jsonl:1: not JSON"),
    (b"\x00\x00\x00", "t.jsonl:1: not JSON"),
    (b"PK\x03\x04\x14", "t.jsonl:1: not JSON"),
    ('{"a":' * 100_000, "t.jsonl:1: not JSON"),
    ("[" * 100_000, "t.jsonl:1: not JSON"),
    ('{"question": "q", "answer": ' + "9" * 5000 + "}", "t.jsonl:1: not JSON"),
    ('{"question": null, "answer": "2"}', "t.jsonl:1: field 'question' must be text"),
    ('{"question": ["a"], "answer": "2"}', "t.jsonl:1: field 'question' must be text"),
    ('{"question": true, "answer": "2"}', "t.jsonl:1: field 'question' must be text"),
    ('{"question": "", "answer": "2"}', "t.jsonl:1: field 'question' is empty"),
    ('{"question": " ", "answer": "2"}', "t.jsonl:1: field 'question' is empty"),
    (r'{"question": "\ud800", "answer": "2"}', "t.jsonl:1: field 'question' holds"),
    ('{"question": "q"}', "t.jsonl:1: field 'answer' is missing"),
    ('{"question": "q", "answer": {}}', "t.jsonl:1: field 'answer' must be text"),
    ('{"answer": "2"}', "t.jsonl:1: field 'question' is missing"),
    (FOLDER, "t.jsonl"),
    (FIFO, "t.jsonl: not a file"),
]
TASKS = [
    *with_file(
        _GSM8K,
        "t.jsonl",
        (
            (
                line.replace('"answer": "2"', '"answer": "#### 2"')
                if isinstance(line, str)
                else line,
                x,
            )
            for line, x in _LINES
        ),
    ),
    *with_file(_MATH, "t.jsonl", _LINES),
    *with_file(_GSM8K, "t.jsonl", [(_LINE + "{\n", "t.jsonl:2: not JSON")]),
    *with_file(_CODE, "t.jsonl", [(_ADD, "task.execute is empty")]),
    *with_file(f"{_CODE} --config.task.execute=docker", "t.jsonl", [(_ADD, "one of '', isolated")]),
    *with_file(f"{_CODE} --config.task.seconds=0", "t.jsonl", [(_ADD, "must be above 0")]),
]

MODEL = f"{RUN} --config.verifier.path= --config.generator.path=model"
FOLDERS = [
    *(
        BadInput(MODEL, named, {"model/config.json": text({**CONFIGS[family], **changes})})
        for family, changes, named in MODELS
    ),
    *with_file(MODEL, "model/config.json", [(content, "config.json") for content, _ in NOT_JSON]),
    *with_file(
        MODEL.replace("=model", "=m.gguf"),
        "m.gguf",
        (
            ("", "m.gguf"),
            ("GGUF", "m.gguf"),
            (b"GGUF" + bytes(3), "m.gguf"),
            (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "m.gguf"),
            (b"GGUF\x63\x00\x00\x00" + bytes(16), "m.gguf"),
            (b"FUGG" + bytes(64), "m.gguf"),
            (bytes(1000), "m.gguf"),
            (FIFO, "m.gguf"),
        ),
    ),
    BadInput(MODEL, "model", {"model/README.md": "x"}),
    BadInput(MODEL, "model", {"model": FOLDER}),
]

_POLICY: dict[str, Any] = {
    "difficulty": "question",
    "samples": 0,
    "budgets": [2],
    "edges": [],
    "choice": {"bin_1": {"n_2": "x"}},
    "strategies": {"x": {"strategy": "best_of_n"}},
}
_SHAPES: list[tuple[Content, str]] = [
    (content, "policy.json")
    for content in ("", "{", "[]", "3", "null", '"a"', b"\xff", "{" * 100_000, "{}", FIFO)
]
_SHAPES += [
    (text(changed(_POLICY, path, value)), path.partition(".")[0])
    for path, values in {
        "difficulty": (3, None, ..., "oracle", "guess", []),
        "samples": (-1, "x", None, 1.5, 10**30),
        "budgets": ([], [0], [-2], [2, 2], ["a"], "2", None, [10**9]),
        "edges": (3, ["a"], [float("nan")], [float("inf")], ...),
        "choice": ([], {}, {"bin_1": {}}, {"bin_2": {"n_2": "x"}}, {"bin_1": {"n_3": "x"}}, ...),
        "choice.bin_1.n_2": (3, None, []),
        "strategies": ([], {}, None, ...),
        "strategies.x": (3, [], {}),
        "strategies.x.strategy": (3, None, ..., "evil.module:Class", "subprocess:Popen"),
        "strategies.x.lookahead": (-1, "x", 1.5),
        "strategies.x.ratio": (-1, float("nan"), "x"),
        "strategies.x.options": (3, [], {"a": {}}, {"a": None}),
        "strategies.x.surplus": (1,),
        "surplus": (1,),
    }.items()
    for value in values
]
POLICIES = [
    *with_file(f"{SOLVE} --config.policy.path=policy.json", "policy.json", _SHAPES),
    *with_file(
        f"{SOLVE} --config.policy.path=policy.json",
        "policy.json",
        (
            (text({**_POLICY, "edges": [0.5]}), "choice lacks bin_2"),
            (text({**_POLICY, "choice": {"bin_1": {"n_2": "y"}}}), "'y' is no strategy"),
        ),
    ),
    *with_file(f"{SOLVE} --config.policy.path=p.py", "p.py", (("import os\n", "JSON now"),)),
    BadInput(f"{SOLVE} --config.policy.path=p", "policy.json", {"p": FOLDER}),
]

_SAMPLE = {"question": "q", "answer": "1", "gold": "1", "score": 0.5, "tokens": 3}
_SAMPLES: list[tuple[Content, str]] = [
    (content, "s.jsonl")
    for content in ("", "\n", "{", "[]", "3", b"\xff\xfe", "[" * 100_000, b"\x00", FIFO)
]
_SAMPLES += [
    (text({**_SAMPLE, **changes}) + "\n", f"s.jsonl:1: {named}")
    for changes, named in (
        ({"question": 3}, "question"),
        ({"question": "a\x1b"}, "question"),
        ({"question": "\ud800"}, "question"),
        ({"tokens": -1}, "tokens"),
        ({"tokens": 1.5}, "tokens"),
        ({"tokens": None}, "tokens"),
        ({"score": 2}, "a score"),
        ({"score": float("nan")}, "a score"),
        ({"score": "high"}, "a score"),
        ({"answer": 3}, "answer"),
        ({"gold": 3}, "gold"),
        ({"surplus": 1}, "field 'surplus'"),
        ({"seed": "a"}, "seed"),
        ({"budget": 0}, "budget"),
        ({"strategy": "a\nb"}, "strategy"),
        ({"strategy": ""}, "strategy"),
        ({"question": ""}, "question"),
        ({"log_prob": float("inf")}, "log_prob"),
        ({"step_scores": [0.5]}, "give either"),
        ({"correct": "yes"}, "correct"),
    )
]
SAMPLES = [
    *with_file(f"{POLICY} --config.data.path=s.jsonl", "s.jsonl", _SAMPLES),
    *with_file(f"{REPORT} --config.data.search=s.jsonl", "s.jsonl", _SAMPLES),
    *rows(
        POLICY,
        ("--config.data.path=nowhere", "nowhere"),
        ("--config.data.path=s.csv", "s.csv"),
        ("--config.data.path=", "data.path"),
    ),
]

_POINT = {"mean": 0.5, "low": 0.4, "high": 0.6}
_SUMMARY: dict[str, Any] = {
    "accuracy": {"best_of_n": {"1": _POINT}},
    "questions": 3,
    "config": {},
    "versions": {"python": "3.11"},
}
_SUMMARIES: list[tuple[Content, str]] = [
    (content, "summary.json")
    for content in ("", "{", "[]", "3", "null", b"\xff", "[" * 100_000, "{}", FIFO, FOLDER)
]
_SUMMARIES += [
    (text(changed(_SUMMARY, path, value)), path.partition(".")[0])
    for path, values in {
        "accuracy": (..., None, [], {}, 3, "x"),
        "accuracy.best_of_n": (None, [], 3, "x", {"a": _POINT}, {"0": _POINT}, {"1": 0.5}),
        "accuracy.best_of_n.1": ({}, [], {"mean": 1}, {"mean": "x", "low": 0, "high": 0}),
        "accuracy.best_of_n.1.mean": (None, "x", [], ...),
        "questions": (..., None, "x", -1, 1.5, []),
        "config": (None, [], 3),
        "versions": (None, [], {"python": 3}, {"python": None}),
        "bins": (3, {}, [3], [{}], [{"pass_at_1": 1, "accuracy": []}]),
        "choosing": (3, [], {}, {"accuracy": {}}),
        "ledger": (3, [], {"a": "x"}, {"best_of_n": {"x": {}}}),
        "ledger_per_question": (3, [], {"a": "x"}),
    }.items()
    for value in values
]
_FITTED: dict[str, Any] = {
    **_SUMMARY,
    "compute_optimal": {
        "few": {"accuracy": {"1": _POINT}, "by_bin": [], "gain": {}, "choice": {}},
    },
}
SUMMARIES = [
    *with_file(f"{REPORT} --config.data.search=s", "s/summary.json", _SUMMARIES),
    *with_file(
        f"report --config={A}:report --workdir=work --config.data.search= --config.data.policy=s",
        "s/summary.json",
        [
            (text(changed(_FITTED, path, value)), path.partition(".")[0])
            for path, values in {
                "compute_optimal": (..., None, [], 3, {"few": 3}, {"few": {}}),
                "compute_optimal.few.by_bin": (3, [3], {}),
                "compute_optimal.few.choice": ([], {"bin_1": 3}, {"bin_1": {"n_1": 3}}),
                "efficiency": ([], {"few": 3}, {"few": {"1": {}}}),
                "allocation": ([], {"x": {}}, {"1": 3}),
                "flops_match": ([], {"few": 3}, {"few": {"1": {"generator": {}}}}),
            }.items()
            for value in values
        ],
    ),
    BadInput(f"{REPORT} --config.data.search=nowhere", "no summary.json"),
    BadInput(
        f"{REPORT} --config.data.search=s", "checksum", {"s/summary.json": text({"checksum": "0"})}
    ),
    BadInput(f"{REPORT} --config.data.chains=s", "questions", {"s/summary.json": "{}"}),
    BadInput(f"{REPORT} --config.data.ratios=s", "questions", {"s/summary.json": "{}"}),
    BadInput(f"{REPORT} --config.data.verifiers=s", "questions", {"s/summary.json": "{}"}),
]

_RECORD = json.dumps({"question": "q"})
WORKDIRS = [
    *(
        BadInput(
            command.replace("--workdir=work", f"--workdir={workdir}"),
            named,
            {"file": "x", "pipe": FIFO},
        )
        for command in (RUN, SWEEP, COLLECT)
        for workdir, named in (
            ("gs://bucket/run", "gs://bucket/run"),
            ("file", "file"),
            ("file/inside", "file"),
            ("pipe/inside", "pipe"),
            ("/sys/kernel/ttc", "/sys/kernel"),
            ("/dev/null/run", "/dev/null"),
            ("x" * 300, "xxx"),
            ("x/" * 2100, "x/x"),
        )
    ),
    *with_file(
        RUN,
        "work/config.json",
        [
            ("{}", "work"),
            ("[]", "config.json"),
            ("{", "config.json"),
            ("", "config.json"),
            ('{"seed": NaN}', "config.json"),
            ("[" * 100_000, "config.json"),
            ('{"seed": 7}', "work"),
            (FIFO, "config.json"),
            (FOLDER, "config.json"),
        ],
    ),
    *with_file(
        f"{POLICY} --config.data.path=data",
        "data/results/00000.jsonl",
        [
            ("{}\n", "00000.jsonl:1"),
            ("[]\n", "00000.jsonl:1"),
            ("3\n", "00000.jsonl:1"),
            ("null\n", "00000.jsonl:1"),
            (_RECORD + "\n", "00000.jsonl:1"),
            (b"\xff\xfe\n", "00000.jsonl:1"),
            (b"\x00" * 100 + b"\n", "00000.jsonl:1"),
            ("[" * 100_000 + "\n", "00000.jsonl:1"),
            (_RECORD, "holds no records"),
            (FOLDER, "00000.jsonl"),
        ],
    ),
    BadInput(f"{POLICY} --config.data.path=d", "gz", {"d/results/00000.jsonl.gz": b"no gzip"}),
    BadInput(f"{TRAIN} --config.data.path=d", "jsonl:1", {"d/results/00000.jsonl": "{}\n"}),
]
BAD = [*TASKS, *FOLDERS, *POLICIES, *SAMPLES, *SUMMARIES, *WORKDIRS]
