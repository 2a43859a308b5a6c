"""Judges a verifier: how often it finds the first wrong step of labelled solutions.

--config.data.path names them: a file or a folder of ProcessBench's JSON, of PRM800K's labels, or of
rows of one's own (see `ttc_jax.tasks.labelled`); or the workdir of a run whose task labels steps
itself, as countdown does. --config.verifier.path is any verifier: a public PRM, one that ttc train
wrote, a probe, a generator's confidence, a class of one's own. Its scores of all steps are appended
to WORKDIR/results/ as they come: a killed run goes on where it was.

A step is said to be wrong where its score is below a threshold, and right about a solution is who
names its first wrong step, or none. The threshold is the one with the highest F1 on questions that
are held out (--config.data.held_out); or --config.judge.threshold. On the others the job tells the
accuracy on solutions with and without a wrong step, and their harmonic mean F1, by subset and with
95 % intervals. With another share or threshold the same scores are reported anew. Of several hosts
each scores a share of the solutions. At the end the workdir holds summary.json, judge.png/.svg/.csv
and timing.json.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.compute.ledger import Ledger
from ttc_jax.config import to_json
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.judging import judge_of, question_of, solutions_of
from ttc_jax.experiments.resumable import Part, fill
from ttc_jax.experiments.workdir import exclusive
from ttc_jax.files import write_json
from ttc_jax.report.console import print_judged
from ttc_jax.report.writing import write_judged
from ttc_jax.results.judged import Judged, summarise_judged
from ttc_jax.results.store import ResultsStore
from ttc_jax.results.summary import write_summary
from ttc_jax.tasks.labelled import LabelledSolution

# How solutions are put together changes the last bits of scores (see `Search`), and no more; what
# is reported of them may always be something else.
MAY_CHANGE = ("execution.mesh", "data.held_out", "judge", "seed")


@exclusive
def main(config: ConfigDict, workdir: Path) -> None:
    """Scores the solutions that the store does not hold yet, then reports."""
    check_fields(config)
    solutions = solutions_of(config)
    questions = [question_of(solution) for solution in solutions]
    parts = [Part(lambda: judge_of(config, solutions))]
    store = fill(
        workdir,
        config,
        questions,
        parts,
        may_change=MAY_CHANGE,
        title="judge",
        unit="solution",
    )
    if store is not None:
        report(config, workdir, store, solutions)


def report(
    config: ConfigDict, workdir: Path, store: ResultsStore, solutions: list[LabelledSolution]
) -> None:
    """Writes summary, timing and figure of what the store holds, and prints the table."""
    records = {record.question: record for record in store.read()}
    summary = summarise_judged(
        [
            Judged(x.problem, x.subset, x.label, records[x.id].candidates[0].step_scores)
            for x in solutions
        ],
        to_json(config),
        sum((record.ledger for record in records.values()), Ledger()),
        held_out=config.data.held_out,
        threshold=config.judge.threshold,
        seed=config.seed,
    )
    path = write_summary(workdir, summary)
    seconds = sum(record.seconds for record in records.values())
    write_json(workdir / "timing.json", {"seconds": seconds})
    write_judged(summary, workdir)
    print_judged(summary)
    print(f"time: {seconds:,.0f} s, compiling included")
    print(f"summary: {path}\nreport: {workdir / 'judge.png'}")
