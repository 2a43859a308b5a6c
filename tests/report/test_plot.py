"""Figures and tables of a report, drawn again for a paper."""

import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.report import samples
from ttc_jax import cli
from ttc_jax.errors import UserError
from ttc_jax.jobs import plot
from ttc_jax.report.figures import accuracy_figure
from ttc_jax.report.markup import latex, markdown
from ttc_jax.report.style import SCREEN, images, paper
from ttc_jax.report.table import Table
from ttc_jax.results.summary_file import read_summaries, write_summaries


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plot")
    found = samples.summaries()
    del found["search"]["choosing"], found["search"]["bins"]
    write_summaries(folder, {job: found[job] for job in ("search", "chains")})
    plot.main(ConfigDict(), folder, format="pdf,svg,tex,md")
    return folder


def test_a_file_for_each_figure_and_table(folder):
    names = {"methods": 1, "chains": 2}
    expected = {f"{name}.{kind}" for name in names for kind in ("pdf", "svg")}
    expected |= {
        f"{name}{f'_{i}' if i > 1 else ''}.{kind}"
        for name, tables in names.items()
        for i in range(1, tables + 1)
        for kind in ("tex", "md")
    }
    assert {path.name for path in (folder / "paper").iterdir()} == expected


def test_figures_are_as_wide_as_a_column_undated_and_say_text(folder):
    for path in (folder / "paper").glob("*.pdf"):
        content = path.read_bytes()
        [box] = re.findall(rb"/MediaBox \[ ?0 0 (\d+) \d+", content)
        assert int(box) == 3.25 * 72
        assert b"/TrueType" in content or b"/CIDFontType2" in content
        assert not re.search(rb"Date|Producer|Creator|/Type3", content)
    svg = (folder / "paper" / "methods.svg").read_text()
    assert ">best-of-N</text>" in svg
    assert "<dc:date>" not in svg


def test_the_same_report_gives_the_same_bytes(folder):
    first = {path.name: path.read_bytes() for path in (folder / "paper").glob("chains*")}
    write_summaries(folder, {"chains": read_summaries(folder)["chains"]})
    plot.main(ConfigDict(), folder, format="pdf,svg,tex,md")
    assert {path.name: path.read_bytes() for path in (folder / "paper").glob("chains*")} == first


def test_colours_and_names_are_those_of_the_report():
    summary = samples.summaries()["search"]
    drawn = []
    for style in (SCREEN, paper(3.25), paper(6.75)):
        figure = accuracy_figure(summary, style=style)
        drawn.append([(line.get_label(), line.get_color()) for line in figure.axes[0].lines])
        assert figure.get_figwidth() == (style.width or 8.4)
        named = {text.get_text() for text in figure.axes[0].texts} | {
            text.get_text() for legend in figure.legends for text in legend.get_texts()
        }
        assert {"best-of-N", "beam 4"} <= named
    assert drawn[0] == drawn[1] == drawn[2]
    assert images("a", figure, ("png",), style)["a.png"].startswith(b"\x89PNG")


ROWS = [
    {"strategy": "best_of_n", "N": 4, "mean": 0.3, "low": 0.25, "high": 0.35},
    {"strategy": "best_of_n", "N": 16, "ratio": 2.0, "low": 1.5, "high": 2.5, "censored": True},
    {"strategy": "5 % of {x} & |y|\n<z>", "N": 16, "value": "\\input{x}"},
]


def test_latex_is_escaped():
    text = latex(Table("in %\nby N", ROWS, "N"))
    assert text.splitlines() == [
        "% in % by N",
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"strategy & 4 & 16 \\",
        r"\midrule",
        r"best-of-N & \shortstack[r]{30.0\\{\tiny 25.0--35.0}} & $\ge$ 1.50$\times$ \\",
        r"5 \% of \{x\} \& \textbar{}y\textbar{} \textless{}z\textgreater{} &  & "
        r"\textbackslash{}input\{x\} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_row_that_starts_like_an_argument_is_none():
    names = ("[x]", "*y", "a[b]")
    rows = [{"strategy": name, "N": 4, "mean": 0.3, "low": 0.2, "high": 0.4} for name in names]
    text = latex(Table("by N", rows, "N"))
    lines = text.splitlines()
    begins = lines[lines.index(r"\midrule") + 1 :]
    assert [line.partition(" & ")[0] for line in begins[:3]] == ["{}[x]", "{}*y", "a[b]"]
    assert lines[lines.index(r"\toprule") + 1].startswith("strategy &")
    head = latex(Table("by N", [{"[level]": "easy", "value": 1}]))
    assert head.splitlines()[4] == r"{}[level] & value \\"


def test_letters_that_pdflatex_has_not_are_told():
    rows = [{"strategy": name, "value": 1} for name in ("δ 漢", "naïve Łódź “a”", "≥ 2 × 3")]
    lines = latex(Table("by N", rows)).splitlines()
    assert lines[2] == "% needs XeLaTeX or LuaLaTeX, and a font that has δ 漢"
    assert lines[3].startswith(r"\begin{tabular}")
    assert "XeLaTeX" not in latex(Table("by N", rows[1:]))


def test_markdown_is_escaped():
    assert markdown(Table("by N", ROWS, "N")).splitlines() == [
        "| strategy | 4 | 16 |",
        "| --- | ---: | ---: |",
        "| best-of-N | 30.0 (25.0 to 35.0) | ≥ 1.50× |",
        r"| 5 % of {x} \& \|y\| \<z\> |  | \\input{x} |",
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format=pdf,eps"], "--format=pdf,eps: 'eps' is none of pdf, svg, png, tex, md"),
        (["--format="], "--format=: '' is none of"),
        (["--width=wide"], "--width=wide: must be column, text or inches from 1.5 to 50"),
        (["--width=nan"], "--width=nan: must be column, text or inches"),
        (["--width=1"], "--width=1: must be"),
        (["--config=countdown:report"], "--config=countdown:report: ttc plot takes no config"),
        ([], "summaries.json: No such file or directory; ttc report writes it: run it once more"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, flags, said):
    assert cli.main(["plot", f"--workdir={tmp_path}", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_workdir_of_a_study_is_told_where_its_report_is(tmp_path):
    write_summaries(tmp_path / "report", {})
    with pytest.raises(UserError, match=rf"its report is in --workdir={tmp_path}/report"):
        read_summaries(tmp_path)


def test_summaries_of_another_shape_are_named(tmp_path):
    write_summaries(tmp_path, {"search": {"questions": "many"}})
    with pytest.raises(UserError, match=r"summaries\.json, search: .*; it is no summary of that"):
        read_summaries(tmp_path)
    write_summaries(tmp_path, {"models": {}})
    with pytest.raises(UserError, match=r"summaries\.json: 'models' is none of search, policy"):
        read_summaries(tmp_path)
