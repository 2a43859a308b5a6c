"""MATH for TFDS, in the 12,000/500 split."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from ttc_jax.tasks.jsonl import read_jsonl, text_field

# checksums.tsv holds the sums that the repository itself gives for these files (Git LFS).
_FOLDER = (
    "https://github.com/openai/prm800k/raw/"
    "00811d6de065642a6967b9017d4cee59550c0ef4/prm800k/math_splits"
)
_NEEDED = ("problem", "answer", "solution")
_OPTIONAL = ("subject", "level", "unique_id")


class Builder(tfds.core.GeneratorBasedBuilder):
    """12,500 competition problems in five levels, split as in "Let's Verify Step by Step"."""

    name = "ttc_math"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(dict.fromkeys(_NEEDED + _OPTIONAL, text)),
            homepage="https://github.com/openai/prm800k",
            license="MIT",
            disable_shuffling=True,  # the order of the rows is the order of the questions
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths = dl_manager.download({s: f"{_FOLDER}/{s}.jsonl" for s in ("train", "test")})
        return {split: self._generate_examples(path) for split, path in paths.items()}

    def _generate_examples(self, path: Any) -> Iterator[tuple[int, dict[str, str]]]:
        for i, (where, row) in enumerate(read_jsonl(path)):
            yield (
                i,
                {name: text_field(row, name, where) for name in _NEEDED}
                | {name: "" if row.get(name) is None else str(row[name]) for name in _OPTIONAL},
            )
