"""GSM8K for TFDS."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from ttc_jax.tasks.jsonl import read_jsonl, text_field

_FOLDER = (
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data"
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """8.5 thousand grade-school word problems with worked solutions that end in `#### n`."""

    name = "ttc_gsm8k"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict({"question": text, "answer": text}),
            homepage="https://github.com/openai/grade-school-math",
            license="MIT",
            disable_shuffling=True,  # the order of the rows gives the questions their ids
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths = dl_manager.download({s: f"{_FOLDER}/{s}.jsonl" for s in ("train", "test")})
        return {split: self._generate_examples(path) for split, path in paths.items()}

    def _generate_examples(self, path: Any) -> Iterator[tuple[int, dict[str, str]]]:
        for i, (where, row) in enumerate(read_jsonl(path)):
            yield i, {name: text_field(row, name, where) for name in ("question", "answer")}
