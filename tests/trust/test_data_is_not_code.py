"""Names and paths that data hold are never imported, executed or formatted."""

import json
import sys
from pathlib import Path

import pytest

from tests.jobs.conftest import changed, configure
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.fitted import Fitted
from ttc_jax.jobs import policy, report
from ttc_jax.policy_file import read_policy
from ttc_jax.results.store import Candidate, Node, Record, ResultsStore
from ttc_jax.results.summary import summarise
from ttc_jax.search.strategies import make_strategy
from ttc_jax.tasks import load_task
from ttc_jax.verifiers.load import load_verifier


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists as soon as the module `trap` has been imported."""
    sprung = tmp_path / "sprung"
    (tmp_path / "python").mkdir()
    code = f"import pathlib\npathlib.Path({str(sprung)!r}).touch()\n"
    code += "class Trap:\n    def questions(self, split): return []\n"
    (tmp_path / "python" / "trap.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "python")
    monkeypatch.delitem(sys.modules, "trap", raising=False)
    return sprung


def records(tree: bool = False) -> list[Record]:
    kept = (Node(-1, 0, "a step", 0.5, 0),) if tree else ()
    found = []
    for question in ("q0", "q1", "q2", "q3", "q4"):
        for strategy in ("best_of_n", "difficulty"):
            candidate = Candidate((1,), "1", True, -1.0, (0.5,), "1", True)
            candidates = (candidate,) * 2
            cost = Ledger(generations=2, decode_tokens=2)
            found.append(Record(question, strategy, 2, 0, candidates, cost, tree=kept))
    return found


def test_a_summary_that_names_code_runs_none(
    trap: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = [record for record in records(tree=True) if record.strategy == "best_of_n"]
    ResultsStore(tmp_path / "search").append(ran)
    settings = {"task": {"name": "trap:Trap"}, "split": "test"}
    (tmp_path / "search" / "summary.json").write_text(json.dumps(summarise(ran, settings)))
    config = configure("report", data__search=str(tmp_path / "search"), data__policy="")
    report.main(config, tmp_path / "out")
    assert "--config.own=trap:Trap" in caplog.text
    assert not trap.exists()
    report.main(changed(config, own="trap:Trap"), tmp_path / "allowed")
    assert trap.exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"strategy": "trap:Trap"},
        {"strategy": "best_of_n", "verifier": "trap:Trap"},
        {"strategy": "best_of_n", "verifier": "flipped:1e-1:trap:Trap"},
    ],
)
def test_a_policy_that_names_code_runs_none(
    trap: Path, tmp_path: Path, entry: dict[str, str]
) -> None:
    name = entry.get("verifier", entry["strategy"])
    table = {
        "difficulty": "question",
        "samples": 0,
        "budgets": [2],
        "edges": [],
        "choice": {"bin_1": {"n_2": "x"}},
        "strategies": {"x": entry},
    }
    (tmp_path / "policy.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=rf"strategies\.x: '{name}' .* --config.own={name}"):
        Fitted.of(read_policy(str(tmp_path)))
    found = Fitted.of(read_policy(str(tmp_path), f"other:One,{name}")).strategies["x"]
    assert {field: getattr(found, field) for field in entry} == entry
    assert not trap.exists()


@pytest.mark.parametrize(
    "name",
    [
        'x"""\nimport trap\n"""',
        "x'''\nimport trap\n'''",
        "{samples}{0.__class__}",
        "$(touch sprung)",
        "%s%(x)s",
        "\udcff",
    ],
)
def test_a_path_is_written_as_text(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name.replace("/", "")
    ResultsStore(folder).append(records())
    config = configure(
        "policy",
        data__path=str(folder),
        policy__budgets="2",
        policy__bins=1,
        policy__resamples=10,
        policy__difficulty="predicted",
    )
    policy.main(config, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "policy.json").read_text())["choice"]["bin_1"].keys() == {
        "n_2"
    }
    assert not trap.exists()


def test_a_policy_in_python_is_not_executed(trap: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text("import trap\n")
    with pytest.raises(UserError, match="policies are JSON now; write it anew with ttc policy"):
        Fitted.of(read_policy(str(tmp_path / "policy.py")))
    with pytest.raises(UserError, match="no such file; ttc policy writes one"):
        Fitted.of(read_policy(str(tmp_path)))
    assert not trap.exists()


def test_a_file_in_the_working_folder_is_no_optional_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `h2.py` would be for an HTTP client, once the folder is looked in for modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    load_task("countdown", size=1)
    load_verifier("confidence:entropy")
    make_strategy("beam", width=2)
    assert str(tmp_path) not in sys.path
    (tmp_path / "mine.py").write_text("class Task:\n    questions = judge = lambda *_: []\n")
    load_task("mine:Task")  # whose siblings may be imported then
    assert str(tmp_path) in sys.path
