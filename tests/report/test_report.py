import csv
import errno
import io
import itertools
import os

import numpy as np
import pytest
from PIL import Image

from ttc_jax.errors import UserError
from ttc_jax.report.console import cost_lines, label, print_summary
from ttc_jax.report.figures import accuracy_figure, bins_figure, chains_figure, ratios_figure
from ttc_jax.report.writing import (
    accuracy_csv,
    write_accuracy,
    write_calibration,
    write_chains,
)


def point(mean, half=0.05):
    return {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half)}


def summary(accuracy=None):
    ledger = {
        "generations": 19200,
        "prefill_tokens": 12000,
        "decode_tokens": 1152000,
        "lookahead_tokens": 0,
        "verifier_tokens": 1000,
        "generator_flops": 2304000000000,
        "verifier_flops": 300,
    }
    means = {"majority": 0.4, "best_of_n_weighted": 0.5, "best_of_n": 0.5, "pass": 0.6}
    return {
        "accuracy": accuracy
        or {
            rule: {str(2**power): point(mean + power / 30) for power in range(9)}
            for rule, mean in means.items()
        },
        "questions": 300,
        "candidates": {"count": 19200, "cut_off": 12, "without_answer": 3400},
        "ledger": ledger,
    }


def printed(*arguments):
    text = io.StringIO()
    print_summary(*arguments, file=text)
    return text.getvalue()


def test_figures_and_numbers_are_written(tmp_path):
    paths = write_accuracy(summary(), tmp_path)
    assert [path.name for path in paths] == ["accuracy.csv", "accuracy.png", "accuracy.svg"]
    with Image.open(tmp_path / "accuracy.png") as image:
        assert image.width > 1200
        assert len(image.getcolors(1 << 20) or range(9999)) > 100
    svg = (tmp_path / "accuracy.svg").read_text()
    for name in ("best-of-N weighted", "majority", "pass@N", "300 questions"):
        assert name in svg
    rows = list(csv.DictReader(io.StringIO((tmp_path / "accuracy.csv").read_text())))
    assert len(rows) == 4 * 9
    assert (rows[0]["strategy"], rows[0]["N"], float(rows[0]["low"])) == (
        "majority",
        "1",
        summary()["accuracy"]["majority"]["1"]["low"],
    )
    assert accuracy_csv(summary()).startswith("strategy,N,mean,low,high\n")


def test_calibration_is_drawn_and_written(tmp_path):
    bins = [
        {"low": 0.0, "high": 0.1, "steps": 30, "score": 0.04, "value": 0.1},
        {"low": 0.9, "high": 1.0, "steps": 70, "score": 0.97, "value": 0.9},
    ]
    quality = {"calibration": bins, "calibration_error": 0.067}
    write_calibration(quality, tmp_path)
    with Image.open(tmp_path / "calibration.png") as image:
        assert image.width > 700
    svg = (tmp_path / "calibration.svg").read_text()
    assert "100 held-out scores; expected calibration error 0.067" in svg
    rows = list(csv.DictReader(io.StringIO((tmp_path / "calibration.csv").read_text())))
    assert [{name: float(x) for name, x in row.items()} for row in rows] == bins
    (tmp_path / "again").mkdir()
    write_calibration(quality, tmp_path / "again")
    assert (tmp_path / "again" / "calibration.svg").read_text() == svg


def test_a_panel_for_each_budget_and_a_line_for_each_bin_over_the_ratios():
    ratios = {"few": 0.25, "even": 1.0, "many": 16.0}
    tables = [
        {name: {str(n): point(base + r / 100) for n in (16, 64)} for name, r in ratios.items()}
        for base in (0.5, 0.8, 0.2)
    ]
    del tables[0]["many"]["16"]  # a ratio that no 16 answers make
    bins = [{"accuracy": table} for table in tables[1:]]
    figure = ratios_figure({"accuracy": tables[0], "bins": bins}, ratios)
    panels = figure.get_axes()
    assert [axes.get_title() for axes in panels] == ["N = 16", "N = 64"]
    drawn = [[tuple(np.asarray(line.get_xdata())) for line in axes.lines] for axes in panels]
    assert drawn == [[(0.25, 1.0)] * 3, [(0.25, 1.0, 16.0)] * 3]
    assert np.asarray(panels[1].lines[2].get_ydata())[-1] == pytest.approx(0.36)
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in panels[1].get_xticklabels()] == ["1/4", "1", "16"]


@pytest.mark.parametrize(
    ("sizes", "about"),
    [((2, 1, 2), "bins of 1 to 2 questions"), ((1, 1), "bins of 1 question;"), ((3,), "of 3 qu")],
)
def test_bins_say_how_large_they_are(sizes, about):
    table = {"best_of_n": {"1": point(0.5), "4": point(0.6)}}
    bins = [{"questions": n, "pass_at_1": 0.5, "accuracy": table} for n in sizes]
    assert about in bins_figure({"accuracy": table, "bins": bins}).get_suptitle()


def test_chains_show_positions_and_flips(tmp_path):
    chains = {
        "pass_at_1_by_position": [point(0.2), point(0.3), point(0.35)],
        "flips": {"right_to_wrong": None, "wrong_to_right": point(0.125)},
    }
    found = {"questions": 300, "chains": chains}
    [line] = chains_figure(found).get_axes()[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(line.get_ydata()).tolist() == [0.2, 0.3, 0.35]
    write_chains(found, tmp_path)
    assert "wrong to right 12.5 %; 300 questions" in (tmp_path / "chains.svg").read_text()


def test_equal_summaries_give_equal_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for one, other in zip(
        write_accuracy(summary(), tmp_path / "a"),
        write_accuracy(summary(), tmp_path / "b"),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()


def test_names_of_lines_that_end_together_do_not_overlap():
    rules = ["majority", "best_of_n", "best_of_n_weighted", "beam", "lookahead", "pass"]
    for level in (0.0, 0.5, 1.0):
        figure = accuracy_figure(summary({rule: {"1": point(level)} for rule in rules}))
        figure.draw_without_rendering()
        axes = figure.axes[0]
        boxes = sorted(
            (
                text.get_window_extent()
                for text in axes.texts
                if text.get_text() in map(label, rules)
            ),
            key=lambda box: box.y0,
        )
        assert len(boxes) == len(rules)
        assert all(below.y1 <= above.y0 + 1 for below, above in itertools.pairwise(boxes))
        assert boxes[0].y0 >= 0
        assert boxes[-1].y1 <= figure.bbox.height


def test_names_are_text_not_mathematics(tmp_path):
    strange = summary({"beam_$M=4": {"1": point(0.5), "2": point(0.6)}})
    paths = write_accuracy(strange, tmp_path, title="costs $3 or \\frac{1}$")
    assert "beam $M=4" in paths[-1].read_text()


def test_names_may_have_any_letters(tmp_path):
    paths = write_accuracy(summary({"größer": {"1": point(0.5), "2": point(0.6)}}), tmp_path)
    assert "\ngrößer,1," in paths[0].read_text(encoding="utf-8")


def test_a_full_disk_is_the_users_to_mend(tmp_path, monkeypatch):
    def fsync(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"accuracy\.csv: No space left on device"):
        write_accuracy(summary(), tmp_path)


def test_the_table_is_plain_and_whole_in_a_pipe():
    text = printed(summary())
    assert "\x1b" not in text
    assert "…" not in text
    lines = text.splitlines()
    assert max(map(len, lines[:12])) < 100
    (header,) = [line.split() for line in lines if line.split()[:1] == ["N"]]
    assert header == ["N", *(str(2**power) for power in range(9))]
    (row,) = [i for i, line in enumerate(lines) if line.split()[:1] == ["majority"]]
    assert lines[row].split()[1:4] == ["40.0", "43.3", "46.7"]
    assert lines[row + 1].split()[:2] == ["35-45", "38-48"]
    assert "19,200 generations; 1,152,000 tokens generated" in text
    assert "2.30e+12 FLOPs" in text
    assert "12 of 19,200 candidates were cut off by the length limit" in text


def test_the_table_is_whole_in_ascii():
    class Ascii(io.StringIO):
        encoding = "ascii"

    file = Ascii()
    print_summary(summary(), file=file)
    assert file.getvalue().isascii()
    assert "best-of-N weighted" in file.getvalue()


def test_rules_with_other_budgets_leave_blanks():
    text = printed(
        summary({"majority": {"1": point(0.5), "4": point(0.6)}, "beam [m=4]": {"4": point(1)}})
    )
    (row,) = [line.split() for line in text.splitlines() if line.split()[:1] == ["beam"]]
    assert row == ["beam", "[m=4]", "100.0"]


def test_answers_without_a_box_are_told():
    plain = summary()
    plain["candidates"]["unboxed"] = 54
    assert "54 of 19,200 candidates give their answer without a box" in cost_lines(plain)


def test_costs_that_are_zero_are_not_mentioned():
    plain = summary()
    plain["ledger"]["verifier_tokens"] = 0
    plain["candidates"] |= {"cut_off": 0, "without_answer": 0}
    assert len(cost_lines(plain)) == 1
    assert "verifier" not in printed(plain)[-200:]
