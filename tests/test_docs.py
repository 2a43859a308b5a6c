"""README and docs/: links lead somewhere, commands parse, Python runs, names are the package's."""

import ast
import contextlib
import dataclasses
import inspect
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import ttc_jax
from tests.sampling.oracle import tiny_generator
from tests.search.toy import SHALLOW, Grader, make_plan, make_search, run
from ttc_jax import cli
from ttc_jax.config import parse_config
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.fitted import followed
from ttc_jax.search.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ttc_jax"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# A block of Python, the line before it, and the files that the text before it names.
PYTHON = re.compile(r"((?:[^\n]+\n)*)\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: [^>]+ -->\n```python\n")
# Page -> blocks of Python that are run, here or by the named test.
RUN = {
    "README.md": 1,  # test_readme
    "docs/bring-your-own-model.md": 2,  # test_own
    "docs/bring-your-own-prm.md": 1,  # test_bring_your_own_prm
    "docs/bring-your-own-task.md": 3,  # test_own
    "docs/bring-your-own-strategy.md": 2,
    "docs/configs.md": 1,
    "docs/quickstart.md": 4,
    "docs/studies.md": 1,
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The job and the arguments of every `ttc` that a page shows, by itself or by a script."""
    lines = re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))
    for language, block in FENCED.findall(page.read_text(encoding="utf-8")):
        if language in ("", "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    for line in lines:
        if not re.search(r"(^|\| )ttc |^bash launch/", " ".join(line.split())):
            continue
        words = shlex.split(line, comments=True)
        if "ttc" in words:
            job, *arguments = words[words.index("ttc") + 1 :]
            yield job, arguments
        elif config := [word for word in words if word.startswith("--config=")]:
            yield "run", config  # which is what a script on TPU VMs starts


@every_page
def test_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for before, code in PYTHON.findall(page.read_text(encoding="utf-8")):
        for name in re.findall(r"`(\w+\.py)`", before)[:1]:
            (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    if page.name == "studies.md":  # the policy by hand stands for the one that ttc policy writes
        Path("runs/policy").mkdir(parents=True)
        Path("runs/policy/policy.json").write_text(by_hand().policy.to_json())
    jobs = cli._jobs()
    for job, arguments in commands(page):
        if job in ("JOB", "--help", "--version"):
            continue
        assert job in jobs
        values, _, rest = cli._flags([x for x in arguments if x != "--help"], jobs[job].flags)
        if not values.config:  # speaks of the job alone
            continue
        config, words = parse_config(values.config, rest)
        check_fields(config)
        assert config.job in jobs[job].takes, f"ttc {job} {values.config}"
        assert len(words) <= len(jobs[job].arguments), f"ttc {job} {words}"


def test_python_is_run_or_says_why_not():
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if run := text.count("```python\n") - len(NOT_RUN.findall(text)):
            found[str(page.relative_to(ROOT))] = run
    assert found == RUN


def block(page: str, holds: str = "") -> str:
    """The one block of Python that holds a text."""
    blocks = [found for _, found in PYTHON.findall((ROOT / "docs" / page).read_text("utf-8"))]
    [found] = [found for found in blocks if holds in found]
    return found


def printed_by(code: str, names: dict[str, Any]) -> list[str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue().splitlines()


def by_hand() -> ConfigDict:
    """The config with a policy that is written by hand."""
    names: dict = {}
    exec(block("studies.md"), names)
    return names["get_config"]()


def test_the_policy_by_hand():
    config = by_hand()
    check_fields(config)
    _, fitted = followed(config)
    assert fitted is not None
    spent = [fitted.policy.strategy(easiness, config.budget) for easiness in (0.9, 0.5, 0.1)]
    assert spent == [("best_of_n", 4), ("beam_4", 16), ("best_of_n", 64)]


def test_the_strategy_of_ones_own():
    names: dict = {}
    exec(block("bring-your-own-strategy.md", "AboveMean"), names)
    scores, active = jnp.array([0.1, 0.9, 0.5, 0.7]), jnp.array([True, True, True, False])
    with jax.numpy_dtype_promotion("standard"):  # as it is for everyone but these tests
        parents = names["AboveMean"]().select(scores, active, jax.random.key(0))
    assert parents[:3].tolist() == [1, 1, 2]


def test_the_strategy_of_ones_own_with_a_state():
    names: dict = {}
    exec(block("bring-your-own-strategy.md", "Patience"), names)
    strategy = names["Patience"](steps=1)
    plan = make_plan(candidates=3, rounds=8, max_new_tokens=24, max_step_tokens=3)
    with jax.numpy_dtype_promotion("standard"):
        generator = tiny_generator(SHALLOW)
        search = make_search(generator, Grader(), dataclasses.replace(plan, strategy=strategy))
        found = run(search, [([1, 2], 5), ([3], 7), ([9], 8)])
    moves = 0
    for trace in (outcome.trace for outcome in found):
        best, waited = np.zeros(3), np.zeros(3, int)
        for scores, parents, starts, ends in zip(
            trace.scores, trace.parents, trace.starts[1:], trace.ends[1:], strict=False
        ):
            going = ends > starts
            waited = np.where(scores > best, 0, waited + 1)
            best = np.maximum(best, scores)
            surest = np.where(going, scores, -1).argmax()
            expected = np.where(going & (waited >= 1), surest, np.arange(3))
            assert parents.tolist() == expected.tolist()
            best, waited = best[parents], waited[parents]
            moves += (parents != np.arange(3)).sum()
    assert moves > 0


def test_lines_that_strategies_take():
    page = (ROOT / "docs" / "bring-your-own-strategy.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)`.* \| (\d+) \|$", page, re.MULTILINE))
    found = {name: str(lines_of_code(inspect.getfile(kind))) for name, kind in STRATEGIES.items()}
    assert told == found


def lines_of_code(path: str) -> int:
    """Lines of a file that are neither empty, nor a comment, a docstring or an import."""
    text = Path(path).read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Expr | ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*blank, tokenize.ENDMARKER):
            found |= set(range(token.start[0], token.end[0] + 1))
    return len(found - left_out)


def test_the_solver_example():
    answers = [x.split() for x in printed_by(block("quickstart.md", "build.solver"), {})]
    assert [rest for _, *rest in answers] == [["best_of_n", "16"]] * 2


def test_the_example_of_completions():
    names: dict[str, Any] = {}
    printed_by(block("quickstart.md", "asyncio"), names)
    assert len(names["outputs"]) == 2
    assert all("boxed" not in x.text for y in names["outputs"] for x in y.completions)


def test_the_example_of_a_reward():
    names: dict[str, Any] = {}
    code = block("quickstart.md", "brief").replace("deadline=60", "deadline=6000")
    printed = printed_by(code.replace("max_tokens=60", "max_tokens=24"), names)
    [first, second] = names["piece"].output.completions
    reasons = [first.finish_reason, second.finish_reason]
    assert printed == (first.text + str(reasons)).splitlines()
    assert second.step_scores[-1] == np.float32(1 / (1 + len(second.text)))


def test_the_example_of_a_search():
    code = block("quickstart.md", "Recorder").replace("size=40", "size=3")
    names: dict[str, Any] = {}
    rules = [x.split()[0] for x in printed_by(code.replace("batch=20", "batch=2"), names)]
    assert rules == ["majority", "best_of_n", "best_of_n_weighted", "pass"]
    assert {record.strategy for record in names["records"]} == {"beam"}


def test_the_site_has_every_page_and_name():
    site = (ROOT / "launch" / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in site
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: ttc_jax\.(\w+)$", api, re.MULTILINE)) == sorted(ttc_jax.__all__)
    assert all(hasattr(ttc_jax, name) for name in ttc_jax.__all__)


def test_the_architecture_page_has_every_package():
    rooms = {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    rooms |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w.*?) \| \w", page, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(rooms)
