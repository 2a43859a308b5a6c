"""Writes one HTML page with the figures, tables and search trees that other jobs found.

`config.data` names their workdirs, as search (of `ttc run` or `ttc sweep`), policy, chains, ratios
and verifiers; "" for what is not there. WORKDIR gets report.html, which needs neither a network nor
any other file, and its figures as PNG and SVG, its tables as CSV. Trees are of the search's
questions that kept theirs: see `search.trees`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.config import claim_workdir
from ttc_jax.errors import UserError
from ttc_jax.parallel import hosts
from ttc_jax.report.figures import write_files
from ttc_jax.report.page import files, page
from ttc_jax.report.sections import records_of_work, sections
from ttc_jax.report.viewer import viewer
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks import load_task
from ttc_jax.tasks.task import Question

PAGE = "report.html"
_log = logging.getLogger(__name__)


def main(config: ConfigDict, workdir: Path) -> None:
    """Reads the summaries and writes the page; of several hosts the first does."""
    folders = {name: Path(path) for name, path in config.data.items() if path}
    if not folders:
        raise UserError(f"config.data names no workdir; set one of {', '.join(config.data)}")
    summaries = {name: _summary(name, folder) for name, folder in folders.items()}
    if not hosts.is_first():
        return
    claim_workdir(workdir, config, may_change=("data", "title"))
    found, about = sections(summaries), records_of_work(summaries)
    trees = _trees(folders["search"], summaries["search"]) if "search" in folders else {}
    contents = files(found)
    text = page(config.title, found, contents, trees, about)
    # An answer in a table may hold lone surrogates, which no file can.
    contents[PAGE] = text.encode("utf-8", "replace")
    write_files(contents, workdir)
    print(f"report: {workdir / PAGE}")


def _summary(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.{name}={folder}: no summary.json ({error}); run that job to its end, or set "
            f"--config.data.{name}="
        ) from error


def _trees(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    records = [record for record in ResultsStore(folder).read() if record.tree]
    if not records:
        return {}
    settings = summary["config"]
    selection = settings.get("selection", {})
    return viewer(
        records,
        _questions(settings),
        selection.get("rule", "best_of_n_weighted"),
        selection.get("aggregation", "last"),
    )


def _questions(settings: Mapping[str, Any]) -> dict[str, Question]:
    """The task's questions by id; none where its data are not at hand."""
    try:
        return {x.id: x for x in load_task(settings["task"]).questions(settings["split"])}
    except (UserError, KeyError, TypeError) as error:
        _log.warning("trees are shown without the texts of their questions: %s", error)
        return {}
