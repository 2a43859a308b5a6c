"""TFDS builders of the public data sets, read without TensorFlow.

They write array_record files, which `as_data_source` reads in order. Data go to TFDS's own folder
(the environment variable TFDS_DATA_DIR changes it).
"""

import importlib
from collections.abc import Iterator
from typing import Any

from ttc_jax.errors import UserError


def read_split(data_set: str, split: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a split, each with where it stands, downloaded and prepared when needed.

    Args:
        data_set: A module of this package, e.g. "gsm8k".
        split: "train" or "test".

    Raises:
        UserError: The download fails.
    """
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.util import DownloadError

    builder_class = importlib.import_module(f"{__name__}.{data_set}").Builder
    builder = builder_class(file_format="array_record")
    try:
        builder.download_and_prepare()
    except (OSError, DownloadError, NonMatchingChecksumError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{data_set} could not be downloaded ({reason}): give its JSONL files by `path` and "
            f"`train_path`"
        ) from error
    for i, row in enumerate(_rows(builder.as_data_source(split=split))):
        yield f"{builder.info.full_name}/{split}:{i}", row


def _rows(source: Any) -> Iterator[dict[str, str]]:
    return ({name: text.decode() for name, text in row.items()} for row in source)
