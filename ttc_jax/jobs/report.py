"""Writes one HTML page with the figures, tables and search trees that other jobs found.

`config.data` names their workdirs, as search (of `ttc run` or `ttc sweep`), policy, chains, ratios
and verifiers; "" for what is not there. All but the policy may also be samples that were drawn
elsewhere or exported, see `ttc_jax.results.foreign`, of which `config.selection` chooses answers;
the strategies of ratios are then those of `config.sweep.strategies`.
WORKDIR gets report.html, which needs neither a network nor any other file, its figures as PNG and
SVG, its tables as CSV, for machines summary.json with all that the jobs' own summaries hold, and
summaries.json, from which `ttc plot` draws the figures again for a paper.
Trees are of the search's questions that kept theirs, see `search.trees`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.config import to_json
from ttc_jax.errors import UserError, naming
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.sections import task_of
from ttc_jax.experiments.workdir import claim_workdir
from ttc_jax.hosts import hosts
from ttc_jax.plugins import check_named_by_data
from ttc_jax.policy.difficulty import oracle, quantile_bins
from ttc_jax.report.findings import findings
from ttc_jax.report.page import files, page
from ttc_jax.report.sections import records_of_work, sections
from ttc_jax.report.viewer import viewer
from ttc_jax.report.writing import write_files
from ttc_jax.results.chains import summarise_chains
from ttc_jax.results.curves import budget_grid, check_rule
from ttc_jax.results.foreign import read_samples
from ttc_jax.results.sample_files import sample_files
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import (
    DIFFICULTY,
    POOL,
    combine,
    difficulty_samples,
    summarise,
    write_summary,
)
from ttc_jax.results.summary_file import read_summary, write_summaries
from ttc_jax.results.sweep_summary import summarise_sweep
from ttc_jax.tasks.task import Question

PAGE = "report.html"
_log = logging.getLogger(__name__)


def main(config: ConfigDict, workdir: Path) -> None:
    """Reads the summaries and writes the page; of several hosts the first does."""
    if not hosts.is_first():
        return
    check_fields(config)
    folders = {name: Path(path) for name, path in config.data.items() if path}
    if not folders:
        raise UserError(f"config.data names no workdir; set one of {', '.join(config.data)}")
    summaries = {name: _summary(config, name, folder) for name, folder in folders.items()}
    claim_workdir(workdir, config, may_change=("data", "title", "selection"))
    found, about = sections(summaries), records_of_work(summaries)
    own = config.get("own", "")
    trees = _trees(folders["search"], summaries["search"], own) if "search" in folders else {}
    contents = files(found)
    sentences = findings(summaries)
    text = page(config.title, found, contents, trees, about, sentences)
    # An answer in a table may hold lone surrogates, which no file can.
    contents[PAGE] = text.encode("utf-8", "replace")
    write_files(contents, workdir)
    write_summaries(workdir, summaries)
    path = write_summary(workdir, combine(summaries))
    for sentence in sentences:
        print(f"- {sentence}")
    print(f"report: {workdir / PAGE}\nsummary: {path}")


def _summary(config: ConfigDict, name: str, folder: Path) -> dict[str, Any]:
    advice = f"run that job to its end, or set --config.data.{name}="
    with naming(f"data.{name}={folder}"):
        if name != "policy" and sample_files(folder):
            return _summary_of_samples(config, name, folder)
        return read_summary(folder, name, advice)


def _summary_of_samples(config: ConfigDict, name: str, path: Path) -> dict[str, Any]:
    """Returns the summary of the job that had drawn them, of a sweep at all powers of two as well.

    Those of the search and of verifiers are sweeps, in which verifiers score the same samples.
    """
    records = read_samples(*sample_files(path), texts=False)
    check_rule(config.selection.rule, records, "the file")
    if name == "chains":
        lengths = {len(record.candidates) for record in records}
        budgets, selection = sorted(lengths), dict(config.selection)
        del selection["rule"]
        found = summarise(records, to_json(config), budgets, **selection)
        return {**found, "chains": summarise_chains(records)}
    samples = difficulty_samples(records)
    if not samples:
        raise UserError(f"has no samples of the strategy {POOL!r}")
    if name == "ratios" and "sweep" not in config:
        raise UserError("config.sweep.strategies must say the ratio of each of its strategies")
    strategies = {record.strategy for record in records} - {DIFFICULTY}
    budgets = {record.budget for record in records if record.strategy != DIFFICULTY}
    return summarise_sweep(
        records,
        to_json(config),
        sorted(budgets.union(*map(budget_grid, budgets))),
        quantile_bins(oracle(samples)),
        pools=strategies if name == "verifiers" else (POOL,),
        **config.selection,
    )


def _trees(folder: Path, summary: Mapping[str, Any], own: str) -> dict[str, Any]:
    if sample_files(folder):  # which knows none, and has been read
        return {}
    # Questions that were answered together may be stored in any order.
    held = sorted(ResultsStore(folder).read(), key=lambda record: record.key)
    records = [record for record in held if record.tree]
    if not records:
        return {}
    settings = summary["config"]
    selection = settings.get("selection", {})
    return viewer(
        records,
        _questions(settings, own),
        selection.get("rule", "best_of_n_weighted"),
        selection.get("aggregation", "last"),
    )


def _questions(settings: Mapping[str, Any], own: str) -> dict[str, Question]:
    """The task's questions by id; none where its data are not at hand."""
    try:
        check_named_by_data(str(settings["task"]["name"]), own, "the search's task.name")
        return {x.id: x for x in task_of(settings["task"]).questions(settings["split"])}
    except (UserError, KeyError, TypeError) as error:
        _log.warning("trees are shown without the texts of their questions: %s", error)
        return {}
