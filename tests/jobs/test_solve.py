"""`ttc solve`: from questions to answers with their cost, as a command and as a call."""

import dataclasses
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.jobs.conftest import changed, configure
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments import build, recorder, setup
from ttc_jax.experiments.fitted import Fitted
from ttc_jax.experiments.setup import Models
from ttc_jax.experiments.solution import Alternative, elect
from ttc_jax.jobs import run, solve
from ttc_jax.policy_file import read_policy
from ttc_jax.report.console import print_solution, visible
from ttc_jax.results.store import Candidate, Record, ResultsStore
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search
from ttc_jax.search.strategies import name_of
from ttc_jax.tasks.task import Question, Task

QUESTIONS = ["04 07=11:", "03 05 09=11:", "04 07 13 25=88:"]
ENTRY = {
    "strategy": "best_of_n",
    "lookahead": 0,
    "ratio": 0.0,
    "generator": "",
    "verifier": "",
    "options": {},
}
BEAM = ENTRY | {"strategy": "beam", "options": {"width": 2}}


def write_policy(path: Path, **fields: Any) -> Path:
    """A policy of two bins: the easy questions get best-of-N, the hard ones a beam search."""
    table = {
        "difficulty": "question",
        "samples": 0,
        "budgets": (2, 4),
        "edges": (0.5,),
        "choice": {
            "bin_1": {"n_2": "best_of_n", "n_4": "best_of_n"},
            "bin_2": {"n_2": "beam_2", "n_4": "beam_2"},
        },
        "strategies": {"best_of_n": ENTRY, "beam_2": BEAM},
    } | fields
    path.write_text(json.dumps(table))
    return path


def candidate(text: str, score: float, answer: str | None = None) -> Candidate:
    scores = () if score < 0 else (score,)
    return Candidate((1,), text, True, -1.0, scores, answer or text, False)


@dataclasses.dataclass(frozen=True)
class Recited:
    """Stands for a search: scores say how easy a question is, which its text says."""

    plan: Plan
    strategy: str
    seed: int
    tokenizer: None = None

    def encode(self, questions: list[Question]) -> list[Question]:
        return questions

    def run_until(self, questions: list[Question], deadline: float):
        assert deadline == math.inf
        budget = self.plan.candidates * self.plan.revisions * (self.plan.lookahead + 1)
        for question in reversed(questions):
            score = 0.9 if question.text.startswith("easy") else 0.2
            record = Record(
                question.id,
                self.strategy,
                budget,
                self.seed,
                tuple(candidate(f"{self.seed}/{i}", score) for i in range(budget)),
                Ledger(generations=budget),
                seconds=1.0,
                sequential=self.plan.revisions,
            )
            yield record, False


@pytest.fixture
def recited(monkeypatch) -> list[tuple[str, int]]:
    """The strategies and candidates of the searches that were built."""
    built: list[tuple[str, int]] = []

    def make_recorder(_: Models, __: Task, plan: Plan, *, seed: int, name: str, **___: object):
        built.append((name_of(plan.strategy), plan.candidates))
        return Recited(plan, name, seed)

    monkeypatch.setattr(setup, "make_recorder", make_recorder)
    monkeypatch.setattr(recorder, "PROMPTS_KEPT", 0)
    return built


@pytest.fixture(scope="module")
def config(trained_generator: Path, trained_prm: Path) -> ConfigDict:
    return configure(
        "solve",
        generator__path=trained_generator / "model",
        verifier__path=trained_prm / "model",
        budget=4,
        sampling__max_new_tokens=16,
        execution__rows=12,
    )


def test_questions_of_one_strategy_share_a_search_and_models_are_loaded_once(
    config, tmp_path, monkeypatch
):
    """An easy question and hard ones, told apart by the PRM's score of the question."""
    searches: list[Search] = []
    calls: list[int] = []
    begin, search_all = Search.__init__, Search.run

    def counted(search: Search, *arguments, **options) -> None:
        searches.append(search)
        begin(search, *arguments, **options)

    def counted_run(search: Search, prompts, *numbers, **options):
        calls.append(len(prompts))
        return search_all(search, prompts, *numbers, **options)

    monkeypatch.setattr(Search, "__init__", counted)
    monkeypatch.setattr(Search, "run", counted_run)
    scores = dict(zip(QUESTIONS, _scores(config, QUESTIONS), strict=True))
    easiest = max(QUESTIONS, key=lambda question: scores[question])
    edge = sum(sorted(scores.values())[1:]) / 2
    policy = write_policy(tmp_path / "policy.json", edges=(edge,))
    loaded: list[str] = []

    def once(name: str, load: Callable[..., Any]) -> Callable[..., Any]:
        def loading(*arguments: Any, **options: Any) -> Any:
            loaded.append(name)
            return load(*arguments, **options)

        return loading

    monkeypatch.setattr(build, "load_generator", once("generator", build.load_generator))
    monkeypatch.setattr(build, "load_verifier", once("verifier", build.load_verifier))
    solver = build.solver(changed(config, policy__path=str(policy)), ResultsStore(tmp_path))
    solutions = solver.solve(QUESTIONS)
    assert [x.question for x in solutions] == QUESTIONS
    assert sorted(calls) == [1, 2]
    for solution in solutions:
        easy = solution.question == easiest
        assert (solution.strategy, solution.bin) == (("best_of_n", 1) if easy else ("beam_2", 2))
        assert solution.difficulty == scores[solution.question]
        assert solution.budget == solution.ledger.generations == solution.candidates["count"] == 4
        assert sum(one.votes for one in solution.alternatives) <= 4
        assert solution.answer == (
            solution.alternatives[0].answer if solution.alternatives else None
        )
        assert solution.seconds > 0
    records = {record.question: record for record in ResultsStore(tmp_path).read()}
    for solution in solutions:
        record = records[solution.id]
        assert (record.strategy, record.budget) == (solution.strategy, 4)
        assert record.question_score == pytest.approx(solution.difficulty, abs=1e-5)
        more = solution.ledger.verifier_tokens - record.ledger.verifier_tokens
        assert more == len(solution.question)  # the question is read once more, to choose
        assert solution.reasoning in [x.text for x in record.candidates]

    # Alone and in another order, with everything compiled: the same but for the time.
    again = solver.solve(QUESTIONS[::-1])[::-1]
    alone = [solver.solve([question])[0] for question in QUESTIONS]
    plain = [dataclasses.replace(x, seconds=0.0) for x in solutions]
    assert [dataclasses.replace(x, seconds=0.0) for x in again] == plain
    assert [dataclasses.replace(x, seconds=0.0) for x in alone] == plain
    assert len(searches) == 2
    assert [search.compilations for search in searches] == [1, 1]
    assert sorted(loaded) == ["generator", "verifier"]


def _scores(config: ConfigDict, questions: list[str]) -> list[float]:
    solver = build.solver(config)
    asked = [Question(text, text, "") for text in questions]
    return [x.easiness or 0.0 for x in solver._guess_by_question(asked)]


def test_samples_that_tell_the_difficulty_are_charged_and_reused(config, tmp_path, recited):
    policy = write_policy(tmp_path / "policy.json", difficulty="predicted", samples=3)
    solver = build.solver(changed(config, policy__path=str(policy)), ResultsStore(tmp_path))
    easy, hard = solver.solve(["easy", "hard"])
    assert recited == [("best_of_n", 3), ("best_of_n", 1), ("beam", 4)]
    assert (easy.strategy, easy.bin, easy.difficulty) == ("best_of_n", 1, pytest.approx(0.9))
    assert (hard.strategy, hard.bin, hard.difficulty) == ("beam_2", 2, pytest.approx(0.2))
    assert easy.ledger.generations == easy.candidates["count"] == 4
    assert (hard.ledger.generations, hard.candidates["count"]) == (7, 4)
    # Three from the seed of the samples, one from that of searches.
    assert {one.answer for one in easy.alternatives} == {"1/0", "1/1", "1/2", "0/0"}
    assert {one.answer for one in hard.alternatives} == {"0/0", "0/1", "0/2", "0/3"}
    assert easy.seconds == hard.seconds == 2.0
    assert sorted(record.key[1:] for record in ResultsStore(tmp_path).read()) == [
        ("beam_2", 4, 0),
        ("best_of_n", 1, 0),
        ("difficulty", 3, 1),
        ("difficulty", 3, 1),
    ]


def test_more_samples_than_the_budget_all_vote(config, tmp_path, recited):
    policy = write_policy(tmp_path / "policy.json", difficulty="predicted", samples=6)
    [solution] = build.solver(changed(config, policy__path=str(policy))).solve(["easy"])
    assert recited == [("best_of_n", 6)]
    assert solution.ledger.generations == solution.candidates["count"] == 6
    assert solution.budget == 4


def test_another_verifiers_pool_is_drawn_anew(config, tmp_path, recited):
    other = {"best_of_n": ENTRY | {"verifier": "confidence:entropy"}, "beam_2": BEAM}
    policy = write_policy(
        tmp_path / "policy.json", difficulty="predicted", samples=3, strategies=other
    )
    [solution] = build.solver(changed(config, policy__path=str(policy), budget=100)).solve(["easy"])
    assert recited == [("best_of_n", 3), ("best_of_n", 4)]
    assert (solution.ledger.generations, solution.budget) == (7, 4)  # the largest that is known


def test_without_a_policy_the_search_section_says_how(config, recited):
    solver = build.solver(changed(config, search__ratio=4.0, budget=16))
    first, second, third = solver.solve(["x", "y", "x"])
    assert recited == [("best_of_n", 2)]  # two chains of eight answers
    assert first == third
    assert (first.difficulty, first.bin, first.ledger.generations) == (None, None, 16)
    assert second.question == "y"
    with pytest.raises(UserError, match="budget 15: best_of_n cannot spend it exactly"):
        build.solver(changed(config, search__ratio=4.0, budget=15)).solve(["x"])


def test_who_is_elected():
    several = [candidate("a1", 0.5, "a"), candidate("b", 0.8), candidate("a2", 0.6, "a")]
    several += [dataclasses.replace(candidate("no answer", 1.0), answer=None)]
    best, alternatives = elect(several, "best_of_n_weighted")
    assert best.text == "a2"
    assert [(x.answer, x.votes) for x in alternatives] == [("a", 2), ("b", 1)]
    assert [x.weight for x in alternatives] == pytest.approx([1.1 / 1.9, 0.8 / 1.9])
    assert elect(several, "best_of_n")[0].text == "b"
    assert elect(several, "best_of_n")[1][0].answer == "b"
    unscored = [candidate("b", -1), candidate("a", -1), candidate("c", -1), candidate("a", -1)]
    assert elect(unscored[:3], "majority")[0].text == "b"  # the first of those that tie
    assert elect(unscored, "majority")[1][0] == Alternative("a", 0.5, 2)
    # Two chains: 0.9 of the second outweighs what the first sends, not what it holds.
    chains = [candidate("a", 0.6), candidate("a", 0.6), candidate("b", 0.9), candidate("b", 0.1)]
    assert elect(chains, "best_of_n_weighted")[0].answer == "a"
    assert elect(chains, "best_of_n_weighted", sequential=2)[0].answer == "b"
    best, alternatives = elect(several[-1:], "best_of_n_weighted")
    assert (best.answer, best.text, alternatives) == (None, "no answer", ())


def test_a_run_follows_a_policy_and_goes_on_where_it_was(config, tmp_path, recited, capsys):
    """Two easy questions and a hard one; what a killed run has stored is not searched for again."""
    policy = write_policy(tmp_path / "policy.json", difficulty="predicted", samples=3)
    asked = [Question(f"q/{i}", text, f"0/{i}") for i, text in enumerate(["easy", "hard", "easy!"])]
    run_config = configure(
        "compute_optimal", policy__path=policy, budget=4, execution__rows=12, limit=3
    )
    workdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "task_of", lambda _: Asked(asked))
        run.main(run_config, workdir)
        first = (workdir / "summary.json").read_bytes()
        assert recited == [("best_of_n", 3), ("best_of_n", 1), ("beam", 4)]
        lines = (workdir / "results" / "00000.jsonl").read_bytes().splitlines(keepends=True)
        (workdir / "results" / "00000.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:9])
        recited.clear()
        run.main(run_config, workdir)
        assert recited == [("beam", 4)]
        assert (workdir / "summary.json").read_bytes() == first
        with pytest.raises(UserError, match="belongs to another config: budget"):
            run.main(changed(run_config, budget=2), workdir)
    summary = json.loads(first)
    assert [part["questions"] for part in summary["by_bin"]] == [2, 1]
    assert [part["strategies"] for part in summary["by_bin"]] == [{"best_of_n": 2}, {"beam_2": 1}]
    assert summary["ledger"]["generations"] == 4 + 4 + 7
    # Recited answers are graded by hand: none of them is right.
    assert summary["accuracy"]["compute_optimal"]["4"]["mean"] == 0.0
    assert "5.0 generations a question" in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class Asked:
    """Stands for a task."""

    asked: list[Question]

    def questions(self, split: str) -> list[Question]:
        assert split == "validation"
        return self.asked


HOSTILE = "easy \x1b]0;title\x07\x1b[2J [red]x[/red] [link=evil]\u202e :bug: \r\x9b31m"


def test_printed_text_steers_nothing(config, recited, monkeypatch, capsys):
    monkeypatch.setattr(
        Recited,
        "run_until",
        lambda _, questions, __: iter(
            [
                (Record(q.id, "x", 1, 0, (candidate(HOSTILE, 0.5),), Ledger()), False)
                for q in questions
            ]
        ),
    )
    solve.main(config, None, HOSTILE)
    printed = capsys.readouterr().out
    shown = visible(HOSTILE)
    assert printed.count(shown) >= 3  # question, reasoning, answer
    for text in ("[red]x[/red]", "[link=evil]", ":bug:", "\\x1b]0;title\\x07", "\\u202e", "\\r"):
        assert text in shown
    assert all(x.isprintable() or x == "\n" for x in printed)
    colours = io.StringIO()
    colours.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("FORCE_COLOR", "1")
    found = dataclasses.asdict(build.solver(config).solve([HOSTILE])[0])
    print_solution(found, colours)
    assert "\x1b[1m" in colours.getvalue()  # our own style
    assert not {"\x1b]", "\x1b[2J", "\x07", "\x9b"} & set(colours.getvalue())
    solve.main(changed(config, json=True), None, HOSTILE)
    line = capsys.readouterr().out
    assert line.isascii()
    assert json.loads(line)["question"] == HOSTILE


def stdin(monkeypatch, data: bytes, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stream)


def test_questions_come_from_stdin_or_a_file_and_keep_their_order(
    config, recited, monkeypatch, capsys, tmp_path
):
    printing = changed(config, json=True)

    def printed(*arguments: Any) -> list[tuple[str, str]]:
        solve.main(*arguments)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [(row["id"], row["question"]) for row in rows]

    stdin(monkeypatch, b"z\r\n\n y? {}\nz\n")
    plain = printed(printing)
    assert [text for _, text in plain] == ["z", "y? {}", "z"]
    assert plain[0] == plain[2] != plain[1]
    rows = b'\xef\xbb\xbf{"question": "z", "id": "q/1"}\n\n{"question": "y? {}", "id": 7}\n'
    stdin(monkeypatch, rows)
    assert printed(printing) == [("q/1", "z"), ("7", "y? {}")]
    (tmp_path / "q.jsonl").write_bytes(rows + b'{"question": "z"}\n')
    from_file = changed(printing, questions=str(tmp_path / "q.jsonl"))
    assert printed(from_file, tmp_path / "w") == [("q/1", "z"), ("7", "y? {}"), plain[0]]
    assert len(ResultsStore(tmp_path / "w").read()) == 3
    assert printed(changed(printing, budget=2), tmp_path / "w", "z") == [plain[0]]
    assert len(ResultsStore(tmp_path / "w").read()) == 4
    with pytest.raises(UserError, match="there is a question as argument too"):
        solve.main(from_file, None, "z")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "stdin: no questions in it"),
        (b"ok\n\xff\n", "stdin:2: not UTF-8"),
        (b'{"question": "a"}\nb\n', "stdin:2: not JSON"),
        (b'{"text": "a"}\n', "stdin:1: field 'question' is missing; found text"),
        (b'{"question": "a", "id": 1}\n{"question": "b", "id": 1}', "two questions have the id"),
        (b'{"question": "\\ud800"}\n', "holds what is no Unicode text"),
    ],
)
def test_questions_that_cannot_be_read(config, recited, monkeypatch, data, message):
    stdin(monkeypatch, data)
    with pytest.raises(UserError, match=message):
        solve.main(config)


def test_mistakes_are_named(config, recited, monkeypatch, tmp_path):
    def refused(message: str, *arguments: Any, **fields: Any) -> None:
        with pytest.raises(UserError, match=message):
            solve.main(changed(config, **fields), None, *arguments)

    stdin(monkeypatch, b"", terminal=True)
    refused("no question: give it as argument")
    refused("q.jsonl: No such file", questions="q.jsonl")
    refused("a question is empty", " ")
    refused("budget=0: must be at least 1", "x", budget=0)
    refused("must be one of majority, best_of_n", "x", selection__rule="best")
    refused("reads scores, and verifier.path is empty", "x", verifier__path="")
    refused("policy.path=p.py: no such file; ttc policy writes one", "x", policy__path="p.py")

    def policy(message: str, budget: int = 4, **fields: Any) -> None:
        path = write_policy(tmp_path / "policy.json", **fields)
        refused(message, "x", policy__path=str(path), budget=budget)

    policy("oracle difficulty cannot be told of a new question", difficulty="oracle")
    policy("policy.samples=0: must be at least 1", difficulty="predicted")
    policy(
        r"bin_2\.n_2: 'beam_2' is no strategy .* has best_of_n$", strategies={"best_of_n": ENTRY}
    )
    policy("policy.choice lacks bin_3", edges=(0.5, 0.1))
    policy("budget 1 is below the policy's least, 2", 1, difficulty="predicted", samples=2)
    policy("edges.0: .* finite number, found nan", edges=(float("nan"),))
    policy("choice.bin_1.x.* should match pattern", choice={"bin_1": {"x": "best_of_n"}})
    policy("budgets.0: .* integer.*, found 'x'", budgets=("x",))
    policy("stratgies: .*Unexpected keyword argument", stratgies={})
    (tmp_path / "empty.json").write_text("{}")
    refused("empty.json: difficulty is missing", "x", policy__path=str(tmp_path / "empty.json"))
    (tmp_path / "policy.py").write_text("raise SystemExit('ran')")
    refused("policies are JSON now", "x", policy__path=str(tmp_path / "policy.py"))
    assert Fitted.of(read_policy(str(write_policy(tmp_path / "policy.json")))).samples == 0


def test_a_question_that_does_not_fit_is_named_before_any_search(config, tmp_path, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda *_: pytest.fail("a search began"))
    with pytest.raises(UserError, match=r"^question 'what\?': the tokenizer does not know"):
        build.solver(config).solve([QUESTIONS[0], "what?"])
    with pytest.raises(UserError, match=r"^question '07 07 .*': a prompt of 1800 tokens"):
        build.solver(config).solve(["07 " * 600])
    policy = write_policy(tmp_path / "policy.json")
    asking = changed(config, policy__path=str(policy))
    with pytest.raises(UserError, match=r"^question 'what\?': the tokenizer does not know"):
        build.solver(asking).solve(["what?"])
    without = changed(asking, verifier__path="", selection__rule="majority")
    with pytest.raises(UserError, match="question difficulty needs a PRM or an ORM"):
        build.solver(without).solve(QUESTIONS)
