"""Writes the records of a workdir as one table, a row a sample: Parquet or JSON lines.

    ttc export --workdir=runs/search --output=samples.parquet

The columns are the fields of `ttc_jax.results.foreign`, so that pandas and others read them, and so
do `ttc report` and `ttc policy`, with the same results. Token ids, values of steps and search trees
stay in the workdir. In the place of a workdir may be samples from elsewhere, as `ttc report` reads
them: their answers are then read and graded.

    ttc export --workdir=runs/search --output=search.parquet --outcomes=best_of_n_weighted

is many times smaller, to be kept or shared: of each search it has only the answer that this
selection rule chooses, of independent samples and chains all, with numbers for answers and the
score of the last step, and no texts. Accuracies and policies by that rule stay the same.

--output=FILE      the table; its end, .parquet or .jsonl, says the format; samples.parquet in the
                   workdir by default
--outcomes=RULE    what accuracies by a selection rule take, and no more: majority, best_of_n or
                   best_of_n_weighted
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.experiments.sections import entry_of
from ttc_jax.experiments.spending import is_pool
from ttc_jax.experiments.workdir import CONFIG
from ttc_jax.files import read_json
from ttc_jax.hosts import hosts
from ttc_jax.results.curves import check_rule
from ttc_jax.results.export import write_samples
from ttc_jax.results.foreign import read_records
from ttc_jax.results.outcomes import outcome
from ttc_jax.results.records import DIFFICULTY, POOL
from ttc_jax.results.sample_files import SUFFIXES
from ttc_jax.results.selection import RULES
from ttc_jax.text import check_name

TAKES = ()


def main(_: ConfigDict, workdir: Path, *, output: str = "", outcomes: str = "") -> None:
    """Writes the file; of several hosts the first does."""
    if not hosts.is_first():
        return
    check_name(output, f"--output={output}")
    files.refuse_url(output, "--output")
    path = Path(output) if output else workdir / "samples.parquet"
    if path.suffix not in SUFFIXES or path.is_dir():
        raise UserError(
            f"--output={output}: must be the name of a file that ends in {' or '.join(SUFFIXES)}"
        )
    records = read_records(workdir)
    if not records:
        raise UserError(f"--workdir={workdir}: holds no records; ttc run and ttc sweep write them")
    if outcomes:
        if outcomes not in RULES:
            raise UserError(f"--outcomes={outcomes}: must be one of {', '.join(RULES)}")
        check_rule(outcomes, records, f"--workdir={workdir}")
        pools = _pools(workdir)
        records = [outcome(record, outcomes, pools) for record in records]
    count = write_samples(path, records)
    print(f"{count:,} samples of {len({x.question for x in records}):,} questions: {path}")


def _pools(workdir: Path) -> set[str]:
    """Returns the strategies whose candidates are independent, those of a sweep's config too."""
    found = {POOL, DIFFICULTY}
    if (workdir / CONFIG).is_file():
        settings = ConfigDict(read_json(workdir / CONFIG, "put back a copy of it"))
        if "sweep" in settings:
            entries = settings.sweep.strategies.items()
            found |= {name for name, entry in entries if is_pool(entry_of(entry))}
    return found
