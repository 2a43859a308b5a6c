"""Writes the records of a workdir as one table, a row a sample: Parquet or JSON lines.

    ttc export --workdir=runs/search --output=samples.parquet

The columns are the fields of `ttc_jax.results.foreign`, so that pandas and others read them, and so
do `ttc report` and `ttc policy`, with the same results. Token ids, values of steps and search trees
stay in the workdir. In the place of a workdir may be samples from elsewhere, as `ttc report` reads
them: their answers are then read and graded.

--output=FILE    the table; its end, .parquet or .jsonl, says the format; samples.parquet in the
                 workdir by default
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax import files
from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts
from ttc_jax.results.export import write_samples
from ttc_jax.results.foreign import read_records
from ttc_jax.results.sample_files import SUFFIXES
from ttc_jax.text import check_name

TAKES = ()


def main(_: ConfigDict, workdir: Path, *, output: str = "") -> None:
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
    count = write_samples(path, records)
    print(f"{count:,} samples of {len({x.question for x in records}):,} questions: {path}")
