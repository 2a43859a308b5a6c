"""The page in a real browser: headless Chromium, where there is one."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import changed, configure
from tests.report import samples
from ttc_jax.jobs import report

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
    "--window-size=1400,1000",
)
# In a copy of the page, what there is to see is told to the page around it.
PROBE = """
<script>
addEventListener("load", () => {
  const view = document.documentElement;
  const texts = (selector) => [...document.querySelectorAll(selector)].map((x) => x.textContent);
  const press = (key) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", {key, bubbles: true}));
  const wide = [view.scrollWidth, view.clientWidth];
  const seen = {wide, steps: texts(".step"), dead: texts(".step.dead"), answers: texts(".answer"),
    groups: texts(".group"), images: [...document.images].map((x) => x.naturalWidth)};
  for (const name of ["question", "strategy", "budget"])
    seen[name] = document.getElementById(name)?.value;
  if (document.querySelector(".step")) {
    seen.votes = texts("#votes tbody td.text");
    seen.winner = texts("#votes tr.winner td.text");
    document.querySelector(".step").focus();
    press("ArrowRight");
    seen.path = texts("#path li");
    document.getElementById("pruned").click();
    seen.without = texts(".step").length;
    const strategy = document.getElementById("strategy");
    strategy.value = strategy.options[strategy.options.length - 1].value;
    strategy.dispatchEvent(new Event("change"));
    seen.hash = location.hash;
  }
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>
"""
AROUND = """<!doctype html><body><pre id="seen"></pre><script>
addEventListener("message", (event) => {
  document.getElementById("seen").textContent = event.data;
});
</script><iframe src="copy.html%s" style="width: %dpx; height: 900px; border: 0"></iframe>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    if CHROMIUM is None:
        if os.environ.get("TTC_REQUIRE_CHROMIUM") == "1":
            pytest.fail(f"TTC_REQUIRE_CHROMIUM=1, but there is none of {', '.join(NAMES)}")
        pytest.skip("there is no Chromium")
    folder = tmp_path_factory.mktemp("browser")
    data = samples.write(folder, "search", "policy", "chains", "ratios", "verifiers")
    report.main(changed(configure("report"), data=data, title="A report"), folder / "page")
    page = (folder / "page" / "report.html").read_text(encoding="utf-8")
    (folder / "page" / "copy.html").write_text(page.replace("</body>", f"{PROBE}</body>"))
    return folder


def open_page(folder: Path, fragment: str = "", width: int = 1280) -> dict[str, Any]:
    """What the probe saw; no error may have been logged."""
    around = folder / "page" / "around.html"
    around.write_text(AROUND % (html.escape(fragment), width))
    profile = folder / "profile"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints
    [seen] = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, done.stdout[-2000:]
    return json.loads(html.unescape(seen))


@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_an_error_and_fits(folder, width: int):
    seen = open_page(folder, width=width)
    assert seen["wide"][0] <= seen["wide"][1] <= width
    assert len(seen["images"]) == 8
    assert min(seen["images"]) > 100
    assert (seen["question"], seen["strategy"]) == ("countdown/test/0/0", "beam_4")


def test_a_link_leads_to_a_tree_with_its_vote(folder):
    seen = open_page(folder, "#question=countdown/test/0/1&strategy=beam_4&budget=2")
    assert (seen["question"], seen["strategy"]) == ("countdown/test/0/1", "beam_4")
    assert len(seen["steps"]) == 4
    assert [text[:6] for text in seen["dead"]] == ["pruned"]
    assert sorted(seen["answers"]) == sorted(["1 ✓", f"{samples.HOSTILE} ✗"])
    assert seen["votes"] == ["1", samples.HOSTILE]
    assert seen["winner"] == ["1"]
    assert seen["path"] == ["onescore 0.7500", "\\boxed{1}score 0.8750"]
    assert seen["without"] == 3


def test_chains_stand_apart_and_a_choice_can_be_linked_to(folder):
    seen = open_page(folder, "#question=countdown%2Ftest%2F0%2F0&strategy=chains&budget=4")
    assert seen["groups"] == ["chain 1", "chain 2"]
    assert len(seen["steps"]) == 4
    assert seen["hash"] == "#question=countdown%2Ftest%2F0%2F0&strategy=chains&budget=4"
