"""The page: what it shows is what summaries say, and what models wrote stays text."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.jobs.conftest import changed, configure
from tests.report import samples
from tests.report.samples import HOSTILE
from ttc_jax.errors import UserError
from ttc_jax.jobs import report
from ttc_jax.report.looks import Looks
from ttc_jax.report.sections import records_of_work, sections
from ttc_jax.report.style import PHONE
from ttc_jax.report.table import Table
from ttc_jax.report.viewer import CANDIDATES, NODES, viewer
from ttc_jax.results.store import Node, Record
from ttc_jax.results.summary_file import read_summaries

ALL = ("search", "policy", "chains", "ratios", "verifiers")
POLICY = ("compute_optimal", "choices", "efficiency", "allocation")
SECTIONS = ["methods", "bins", "choosing", *POLICY, "chains", "ratios", "verifiers", "flops_match"]
SECTIONS += ["search_trees", "cost", "configuration", "versions"]


class Tags(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.lasttag == "script":
            self.scripts[-1] += data

    def ids(self, tag: str) -> list[str]:
        return [str(found["id"]) for name, found in self.tags if name == tag and "id" in found]


def write(folder: Path, *names: str, title: str = "A report") -> str:
    config = changed(configure("report"), data=samples.write(folder, *names), title=title)
    report.main(config, folder / "page")
    return (folder / "page" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(folder, *ALL, title=HOSTILE)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "page" / "report.html").read_text(encoding="utf-8")


def trees(page: str) -> dict[str, Any]:
    [text] = re.findall(r'<script type="application/json" id="trees">(.*?)</script>', page)
    return json.loads(text)


def test_everything_has_its_section_and_is_listed(page):
    found = Tags(page)
    assert found.ids("section") == SECTIONS
    links = [about["href"] for tag, about in found.tags if tag == "a"]
    inside = [link for link in dict.fromkeys(links) if not str(link).startswith("data:")]
    assert inside == [f"#{name}" for name in SECTIONS]


def test_each_table_is_there_as_csv_and_each_figure_for_a_telephone(page, folder):
    found = Tags(page)
    tables = {x["download"]: str(x["href"]) for tag, x in found.tags if "download" in x}
    beside = {path.name: path.read_bytes() for path in (folder / "page").glob("*.csv")}
    assert beside.keys() <= tables.keys()
    for name, content in beside.items():
        kind, _, data = tables[name].partition(",")
        assert kind == "data:text/csv;base64"
        assert base64.b64decode(data) == content
    narrow = [x for tag, x in found.tags if tag == "source"]
    assert len(narrow) == 8
    assert all(int(str(x["width"])) == round(72 * PHONE.width) for x in narrow)
    assert "prefers-color-scheme: dark" in page


def test_it_needs_no_other_file_and_no_network(page):
    found = Tags(page)
    for _, about in found.tags:
        for name in ("src", "href"):
            assert (about.get(name) or "#").startswith(("#", "data:"))
    assert "url(" not in page
    [policy] = [
        about["content"] for tag, about in found.tags if about.get("http-equiv") and tag == "meta"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_what_models_and_configs_say_stays_text(page):
    found = Tags(page)
    assert not any("onerror" in about for _, about in found.tags)
    assert sum(tag == "script" for tag, _ in found.tags) == 2
    assert sum(tag == "img" for tag, _ in found.tags) == 8
    assert trees(page)["trees"][0]["nodes"][1]["text"] == f"pruned {HOSTILE}\n"
    assert trees(page)["trees"][0]["candidates"][1]["answer"] == HOSTILE


def numbers(value: Any) -> set[str]:
    """Every number of nested data, as the page writes shares, ratios and plain ones."""
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values()), *(map(numbers, value.keys())))
    if isinstance(value, list):
        return set().union(*map(numbers, value))
    if isinstance(value, str):
        return set(re.findall(r"\d[\d.]*", value))
    if isinstance(value, bool) or value is None:
        return set()
    return {f"{100 * value:.1f}", f"{value:.2f}", f"{value:,}", f"{value:,.10g}"}


def test_every_number_of_a_table_comes_from_a_summary(folder, page):
    summaries = {x: json.loads((folder / x / "summary.json").read_text()) for x in ALL}
    known = numbers(summaries) | {str(i) for i in range(1, 6)}  # places of bins and answers
    known |= {f"{100 * part['pass_at_1']:.0f}" for part in summaries["search"]["bins"]}
    cells = [html.unescape(re.sub("<[^>]*>", " ", x)) for x in re.findall("<td.*?</td>", page)]
    shown = {
        x for cell in cells if HOSTILE not in cell for x in re.findall(r"\d[\d,.]*\d|\d", cell)
    }
    assert len(shown) > 150
    assert shown <= known
    first = summaries["policy"]["efficiency"]["oracle"]["16"]
    assert f"≥ {first['low']:.2f}×" in page
    relative = summaries["policy"]["flops_match"]["oracle"]["22"]["verifier"]["by_bin"][0][
        "relative"
    ]
    assert f"{100 * relative['mean']:.1f}<small>" in page


def test_machines_get_all_of_it_in_one_file(folder):
    found = json.loads((folder / "page" / "summary.json").read_text())
    parts = {x: json.loads((folder / x / "summary.json").read_text()) for x in ALL}
    search, policy = parts["search"], parts["policy"]
    assert {"best_of_n", "beam_4", "compute_optimal_oracle"} <= set(found["accuracy"])
    assert found["accuracy"]["beam_4"]["16"] == search["accuracy"]["beam_4"]["16"]
    assert found["by_bin"][1]["accuracy"]["beam_4"] == search["bins"][1]["accuracy"]["beam_4"]
    for name in ("compute_optimal", "efficiency", "efficiency_net", "allocation"):
        assert found[name] == policy[name]
    there = policy["flops_match"]["oracle"]["22"]["verifier"]
    here = found["flops_match"]["oracle"]["22"]
    assert list(here) == [*(str(i + 1) for i in range(len(there["by_bin"]))), "all"]
    assert here["1"]["verifier"]["relative"] == there["by_bin"][0]["relative"]
    assert here["all"]["verifier"]["generations"] == there["generations"]
    assert found["choosing"] == search["choosing"]
    assert found["chains"] == parts["chains"]["chains"]
    assert found["ratios"]["accuracy"] == parts["ratios"]["accuracy"]
    assert found["ledger"]["search"] == search["ledger"]
    assert found["config"]["policy"] == policy["config"]
    assert "python" in found["versions"]
    assert read_summaries(folder / "page").keys() == parts.keys()  # which `ttc plot` reads


def test_figures_and_tables_stand_beside_it(folder):
    page = folder / "page"
    for name in ("methods", "bins", "compute_optimal", "chains", "ratios", "flops_match"):
        assert (page / f"{name}.svg").read_text().startswith("<?xml")
        with Image.open(page / f"{name}.png") as image:
            assert image.width > 700
        assert (page / f"{name}.csv").stat().st_size
    rows = list(csv.DictReader(io.StringIO((page / "methods.csv").read_text())))
    accuracy = json.loads((folder / "search" / "summary.json").read_text())["accuracy"]
    assert len(rows) == 4
    for row in rows:
        assert float(row["mean"]) == accuracy[row["strategy"]][row["N"]]["mean"]


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_there_is_left_out(name: str, tmp_path):
    found = Tags(write(tmp_path, name)).ids("section")
    rest = {
        "search": ["methods", "bins", "choosing", "search_trees", "cost", "configuration"],
        "policy": [*POLICY, "flops_match", "configuration"],
        "chains": ["chains", "cost"],
        "ratios": ["ratios", "configuration"],
        "verifiers": ["verifiers"],
    }
    assert found == [*rest[name], "versions"]


def test_a_policy_without_flops_match_and_a_run_without_bins():
    found = samples.summaries()
    policy, run = dict(found["policy"]), dict(found["search"])
    for name in ("flops_match", "allocation", "efficiency_net"):
        del policy[name]
    del run["bins"], run["choosing"]
    names = [section.name for section in sections({"policy": policy, "search": run})]
    assert names == ["methods", "compute_optimal", "choices", "efficiency"]
    assert [section.name for section in records_of_work({})] == []


def test_a_folder_without_a_summary_is_named(tmp_path):
    config = configure("report")
    for data, message in (
        ({"search": str(tmp_path)}, "data.search=.*: no summary.json .* or set --config.data.sea"),
        ({}, "config.data names no workdir; set one of chains, policy, ratios, sea"),
    ):
        every = dict.fromkeys(ALL, "") | data
        with pytest.raises(UserError, match=message):
            report.main(changed(config, data=every), tmp_path / "page")
        assert not (tmp_path / "page").exists()


def test_samples_scored_elsewhere_are_a_search(tmp_path):
    rows = [
        {"question": f"q{i}", "correct": i + n > 8, "answer": f"{n}", "score": n / 4, "tokens": 9}
        for i in range(10)
        for n in range(4)
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = dict.fromkeys(ALL, "") | {"search": str(path)}
    report.main(changed(configure("report"), data=data), tmp_path / "page")
    found = Tags((tmp_path / "page" / "report.html").read_text(encoding="utf-8")).ids("section")
    assert {"methods", "bins", "cost"} <= set(found)
    assert "search_trees" not in found
    strategy = json.dumps(rows[0] | {"strategy": "mine"})
    path.write_text(strategy + "\n")
    with pytest.raises(UserError, match="has no samples of the strategy 'best_of_n'"):
        report.main(changed(configure("report"), data=data), tmp_path / "other")


def test_the_same_workdir_takes_more_data_later(tmp_path):
    assert "compute_optimal" not in Tags(write(tmp_path, "search")).ids("section")
    assert "compute_optimal" in Tags(write(tmp_path, "search", "policy")).ids("section")


def test_a_question_without_its_text_has_its_id(tmp_path, caplog):
    summary = samples.summaries()["search"]
    summary["config"]["task"] = {"name": "nothing"}
    data = samples.write(tmp_path, "search")
    samples.write_summary(tmp_path / "search", summary)
    report.main(changed(configure("report"), data=data), tmp_path / "page")
    found = trees((tmp_path / "page" / "report.html").read_text())["questions"]
    assert found[0] == {"id": "countdown/test/0/0", "text": "", "answer": ""}
    assert "without the texts of their questions: unknown task" in caplog.text


def test_what_the_viewer_is_given(page):
    found = trees(page)
    assert [question["id"] for question in found["questions"]] == [
        "countdown/test/0/0",
        "countdown/test/0/1",
    ]
    assert all(question["text"] and question["answer"] for question in found["questions"])
    beam, _, chains = sorted(found["trees"], key=lambda tree: tree["strategy"])
    assert [node["parent"] for node in beam["nodes"]] == [-1, -1, 0, 0]
    assert [node["alive"] for node in beam["nodes"]] == [True, False, True, True]
    assert [node["candidate"] for node in beam["nodes"]] == [None, None, 0, 1]
    assert beam["cut"] == 0
    assert beam["rule"] == "best_of_n_weighted"
    first, second = beam["votes"]
    assert first == {
        "answer": "1", "correct": True, "candidates": 1, "sum": 0.875, "best": 0.875, "share": 1.0
    }  # fmt: skip
    assert (second["answer"], second["share"]) == (HOSTILE, 0.0)
    assert chains["sequential"] == 2
    assert [node["group"] for node in chains["nodes"]] == [1, 2, 1, 2]
    # 1 beats 0 in the first chain by 0.2 to 0.1, in the second by 0.4 to 0.3.
    assert [(vote["answer"], vote["share"]) for vote in chains["votes"]] == [("1", 1.0), ("0", 0.0)]


def test_large_trees_are_cut_and_say_so():
    n, steps = 256, 12
    ends = [samples.candidate("x", i / n, str(i)) for i in range(n)]
    nodes, last = [], [-1] * n
    for step in range(steps):
        for row in range(n):
            nodes.append(Node(last[row], step, "x", 0.5, row if step == steps - 1 else None))
        last = [len(nodes) - n + row for row in range(n)]
    nodes += [Node(-1, 0, "pruned", 0.5, None)] * 2000
    found = viewer([samples.record("q", "beam", tuple(ends), tuple(nodes))], {})
    [tree] = found["trees"]
    assert sum(node["times"] for node in tree["nodes"]) == NODES
    assert len(tree["nodes"]) == CANDIDATES + steps  # the rows' common steps are one path
    assert tree["cut"] == len(nodes) - NODES
    shown = {node["candidate"] for node in tree["nodes"]} - {None}
    assert len(shown) == CANDIDATES
    assert n - 1 in shown  # the winner
    assert len(tree["candidates"]) == len(tree["votes"]) == n
    assert all(node["parent"] < i for i, node in enumerate(tree["nodes"]))


def test_equal_steps_of_a_tree_are_one_and_say_how_many():
    texts = ["a"] * 3 + ["b"] * 2
    nodes = [Node(-1, 0, text, 0.5, None) for text in texts]
    nodes += [Node(0, 1, "x", 0.75, 0), Node(1, 1, "x", 0.75, 1), Node(1, 1, "x", 0.75, 2)]
    ends = [samples.candidate("ax", 0.75, answer, answer == "1") for answer in ("1", "1", "2")]
    [tree] = viewer([samples.record("q", "beam", tuple(ends), tuple(nodes))], {})["trees"]
    shown = [(x["parent"], x["text"], x["alive"], x["times"]) for x in tree["nodes"]]
    assert shown == [
        (-1, "a", True, 2),
        (-1, "a", False, 1),
        (-1, "b", False, 2),
        (0, "x", True, 2),
        (0, "x", True, 1),  # ends in another answer
    ]
    assert [node["candidate"] for node in tree["nodes"]] == [None, None, None, 0, 2]


def test_the_tree_shown_first_is_right_and_nearly_was_not():
    def searched(name: str, *scores: float, right: int = 0) -> Record:
        ends = [samples.candidate("x", x, str(i), i == right) for i, x in enumerate(scores)]
        nodes = [Node(-1, 0, "x", x, i) for i, x in enumerate(scores)]
        return samples.record(name, "beam", tuple(ends), (*nodes, Node(-1, 0, "no", 0.1, None)))

    records = [searched("sure", 0.9, 0.1), searched("near", 0.9, 0.8), searched("wrong", 0.2, 0.9)]
    for some in (records, records[::-1]):
        assert viewer(some, {})["first"] == {"question": "near", "strategy": "beam", "budget": 2}
    assert viewer([], {})["first"] == {}


def test_a_strategy_has_one_name_and_colour_in_all_figures():
    rules = ("majority", "best_of_n", "best_of_n_weighted", "best_of_n_weighted/min", "pass")
    searched = {
        "rule": "best_of_n_weighted",
        "accuracy": dict.fromkeys(("best_of_n", *"abcd")),
        "choosing": {"accuracy": dict.fromkeys(rules)},
    }
    kinds = [f"compute_optimal_{x}" for x in ("oracle", "predicted", "few", "question")]
    policy = {"rule": "best_of_n_weighted", "accuracy": dict.fromkeys(("best_of_n", *kinds))}
    choosing = searched["choosing"]
    looks = Looks.of([searched, policy])
    pool = looks.look("best_of_n", searched)
    assert pool.label == "best-of-N weighted"
    assert pool == looks.look("best_of_n_weighted", choosing) == looks.look("best_of_n", policy)
    assert looks.look("best_of_n", choosing).label == "best-of-N"  # the rule, not the strategy
    for summary in (searched, policy, choosing):
        drawn = [looks.look(name, summary) for name in summary["accuracy"]]
        assert len({(x.color, x.marker) for x in drawn}) == len({x.label for x in drawn})
        assert len({x.label for x in drawn}) == len(drawn)


def test_without_scores_the_majority_decides():
    votes = [samples.candidate("x", 0.5, answer) for answer in ("3", "4", "4")]
    unscored = tuple(dataclasses.replace(x, step_scores=()) for x in votes)
    nodes = tuple(Node(-1, 0, "x", None, i) for i in range(3))
    [tree] = viewer([samples.record("q", "best_of_n", unscored, nodes)], {})["trees"]
    assert tree["rule"] == "majority"
    assert [(vote["answer"], vote["sum"]) for vote in tree["votes"]] == [("4", None), ("3", None)]


def test_a_table_spreads_a_column_and_leaves_holes():
    rows = [
        {"strategy": "a", "N": 4, "mean": 0.5, "low": 0.25, "high": 0.75},
        {"strategy": "b", "N": 16, "ratio": 2.0, "low": 1.5, "high": 3.0, "censored": True},
    ]
    table = Table("", rows, "N")
    assert table.header == ["strategy", "4", "16"]
    assert table.cells == [["a", "50.0", ""], ["b", "", "≥ 1.50×"]]
    assert table.cells[0][1].interval == "25.0 to 75.0"
    assert table.csv.splitlines()[1] == "a,4,0.5,0.25,0.75,,"
