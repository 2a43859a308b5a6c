"""The TFDS builder of every data set that can be downloaded, read without TensorFlow.

It writes array_record files, which `as_data_source` reads in order. Data go to TFDS's own folder
(the environment variable TFDS_DATA_DIR changes it).
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.core.registered import skip_registration
from tensorflow_datasets.core.utils import Size

from ttc_jax.errors import UserError
from ttc_jax.tasks.data_set import DataSet
from ttc_jax.tasks.jsonl import optional_field, read_jsonl, text_field

PATIENCE = 15  # seconds in which the server of a download must answer


def read_split(data_set: type[DataSet], split: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a split, each with where it stands, downloaded and prepared when needed.

    Raises:
        UserError: The download fails, or what it brings is not the file that it should be.
    """
    advice = "give its JSONL files by task.path and task.train_path"
    builder: Any = builder_of(data_set)(file_format="array_record")
    try:
        if not builder.data_path.exists():
            _check_reachable(data_set.downloads[0].url)
        builder.download_and_prepare()
    except NonMatchingChecksumError as error:
        urls = " or ".join(file.url for file in data_set.downloads)
        raise UserError(f"{data_set.name}: {urls} is not the file that it was; {advice}") from error
    except (OSError, DownloadError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{data_set.name} could not be downloaded ({reason}); {advice}") from error
    for i, row in enumerate(builder.as_data_source(split=split)):
        texts = {name: text.decode() for name, text in row.items()}
        yield f"{builder.info.full_name}/{split}:{i}", texts


def _check_reachable(url: str) -> None:
    """Raises an OSError at once where there is no network; TFDS would try again for minutes."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return  # the server is there; what it gives is TFDS's to judge


class Rows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Makes TFDS's files of a `DataSet`'s rows: its columns as text, in the order of the rows."""

    VERSION = tfds.core.Version("1.0.0")
    data_set: ClassVar[type[DataSet]]

    def _info(self) -> tfds.core.DatasetInfo:
        columns = self.data_set.needed + self.data_set.optional
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.data_set.__doc__,
            features=tfds.features.FeaturesDict(dict.fromkeys(columns, tfds.features.Text())),
            homepage=self.data_set.homepage,
            license=self.data_set.license,
            disable_shuffling=True,  # the order of the rows is that of the questions
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths = dl_manager.download({file.split: file.url for file in self.data_set.downloads})
        return {split: self._generate_examples(path) for split, path in paths.items()}

    def _generate_examples(self, path: Any) -> Iterator[tuple[int, dict[str, str]]]:
        for i, (where, row) in enumerate(read_jsonl(path)):
            kept = {name: text_field(row, name, where) for name in self.data_set.needed}
            yield i, kept | {n: optional_field(row, n, where) for n in self.data_set.optional}


def builder_of(data_set: type[DataSet]) -> type[Rows]:
    """The TFDS builder of a data set."""
    # What TFDS checks downloads against.
    sums = {file.url: UrlInfo(Size(file.size), file.sha256, None) for file in data_set.downloads}
    own = {"name": f"ttc_{data_set.name}", "data_set": data_set, "url_infos": sums}
    with skip_registration():
        return type(f"Ttc{data_set.__name__}", (Rows,), {"__module__": __name__, **own})
