"""Headers of GGUF files: what the package's own reader reads, and nothing beyond the file."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType

from tests.models import gguf_bytes
from ttc_jax.errors import UserError
from ttc_jax.models.gguf_header import read_header

PAIRS: dict[str, Any] = {
    "general.architecture": "llama",
    "a.small": gguf_bytes.value(GGUFValueType.UINT8, 200),
    "a.negative": gguf_bytes.value(GGUFValueType.INT64, -5),
    "a.float": 0.5,
    "a.double": gguf_bytes.value(GGUFValueType.FLOAT64, 0.1),
    "a.flag": True,
    "a.flags": [True, False, True],
    "a.texts": ["", "é", "日本\n"],
    "a.numbers": [1, -2, 3],
    "a.none": gguf_bytes.array(GGUFValueType.UINT32, b"", 0),
}
TENSORS = {
    "blk.0.first": np.arange(12, dtype=np.float32).reshape(3, 4),
    "blk.0.second": np.arange(8, dtype=np.float32),
}
WHOLE = gguf_bytes.file(PAIRS, TENSORS)
HUGE = 1 << 40


def refusal(raw: bytes, path: Path) -> str:
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_header(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_same_as_the_package(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("n", 7)
    writer.add_float64("f", 0.25)
    writer.add_bool("b", False)
    writer.add_string("s", "blank  and é")
    writer.add_array("texts", ["a", "", "b"])
    writer.add_array("numbers", [1, 2, 3])
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(4, 64)).astype(np.float32)
    kinds = [gguf.GGMLQuantizationType[k] for k in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")]
    for kind in kinds:
        writer.add_tensor(f"t.{kind.name}", gguf.quantize(wide, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata, tensors = read_header(path)
    reader = gguf.GGUFReader(path)
    theirs = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    ours = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in metadata.items()}
    assert ours == theirs
    assert tensors.keys() == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        mine = tensors[tensor.name]
        assert mine.shape == (4, 64)
        assert mine.kind == tensor.tensor_type
        np.testing.assert_array_equal(
            gguf.dequantize(mine.data, mine.kind),
            gguf.dequantize(tensor.data, tensor.tensor_type),
        )


def test_types(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(WHOLE)
    metadata, tensors = read_header(path)
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in metadata.items()}
    assert plain == {
        **{k: v for k, v in PAIRS.items() if not isinstance(v, bytes)},
        "a.small": 200,
        "a.negative": -5,
        "a.double": 0.1,
        "a.none": [],
    }
    assert type(plain["a.flag"]) is bool
    for name, values in TENSORS.items():
        np.testing.assert_array_equal(tensors[name].data, values)


def test_cut_off_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    for length in range(len(WHOLE)):
        assert "not a whole GGUF file" in refusal(WHOLE[:length], path)


def test_every_word_of_ones(tmp_path: Path) -> None:
    """Whatever count, length, type or offset is the highest number: an error or a whole file."""
    path = tmp_path / "odd.gguf"
    for at in range(len(WHOLE) - 8):
        for word in (b"\xff" * 8, struct.pack("<Q", HUGE)):
            path.write_bytes(WHOLE[:at] + word + WHOLE[at + len(word) :])
            try:
                read_header(path)
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017, some of the files are whole


STRING, UINT8, FLOAT64 = GGUFValueType.STRING, GGUFValueType.UINT8, GGUFValueType.FLOAT64
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "other": (b"PK\x03\x04" + bytes(60), "it does not begin with GGUF"),
    "version 1": (gguf_bytes.file({}, version=1), "of version 1; supported are versions 2 and 3"),
    "version 4": (gguf_bytes.file({}, version=4), "of version 4; supported are"),
    "version 0": (gguf_bytes.file({}, version=0), "of version 0; supported are"),
    "big-endian": (gguf_bytes.file({}, version=3 << 24), "a big-endian GGUF file"),
    "keys": (gguf_bytes.file(PAIRS, counts=(None, HUGE)), f"asks for {HUGE} keys; at most"),
    "more keys": (gguf_bytes.file({}, counts=(None, 9)), "ends beyond its 32 bytes"),
    "tensors": (gguf_bytes.file(PAIRS, counts=(HUGE, None)), f"asks for {HUGE} tensors; at"),
    "key": (
        gguf_bytes.file({}, counts=(None, 1))[:24] + gguf_bytes.text("a", HUGE),
        f"a key asks for {HUGE} bytes; at most",
    ),
    "string": (
        gguf_bytes.file({"a.b": struct.pack("<I", STRING) + gguf_bytes.text("a", HUGE)}),
        "'a.b' ends beyond its",
    ),
    "strings": (
        gguf_bytes.file({"a.b": gguf_bytes.array(STRING, b"", HUGE)}),
        f"'a.b' asks for {HUGE} strings; at most",
    ),
    "fewer strings": (
        gguf_bytes.file({"a.b": gguf_bytes.array(STRING, b"", 1000)}),
        "'a.b' has 1000 entries, which end beyond its",
    ),
    "string of strings": (
        gguf_bytes.file({"a.b": gguf_bytes.array(STRING, gguf_bytes.text("a", HUGE), 1)}),
        "entry 0 of 'a.b' ends beyond its",
    ),
    "bytes": (
        gguf_bytes.file({"a.b": gguf_bytes.array(UINT8, b"", HUGE)}),
        f"'a.b' asks for {HUGE} numbers; at most",
    ),
    "doubles": (
        gguf_bytes.file({"a.b": gguf_bytes.array(FLOAT64, b"", 1000)}),
        "'a.b' has 1000 entries, which end beyond its",
    ),
    "nested": (
        gguf_bytes.file({"a.b": gguf_bytes.array(GGUFValueType.ARRAY, b"", 3)}),
        "'a.b' is an array of arrays",
    ),
    "type": (gguf_bytes.file({"a.b": struct.pack("<I", 77)}), "'a.b' is of type 77, which GGUF"),
    "entries' type": (
        gguf_bytes.file({"a.b": gguf_bytes.array(13, b"", 0)}),
        "'a.b' is of type 13, which GGUF",
    ),
    "UTF-8": (
        gguf_bytes.file({"a.b": struct.pack("<I", STRING) + gguf_bytes.text(b"\xff\xfe")}),
        "'a.b' is not UTF-8",
    ),
    "entry's UTF-8": (
        gguf_bytes.file({"a.b": gguf_bytes.array(STRING, gguf_bytes.text(b"\xed\xa0\x80"), 1)}),
        "entry 0 of 'a.b' is not UTF-8",
    ),
    "twice": (
        gguf_bytes.file({"a.b": 1}, counts=(None, 2)).rstrip(b"\0")
        + b"\0\0\0"
        + gguf_bytes.text("a.b")
        + gguf_bytes.plain(1),
        "'a.b' is stored twice",
    ),
    "alignment": (gguf_bytes.file({"general.alignment": 3}), "general.alignment 3 is no power"),
    "no alignment": (gguf_bytes.file({"general.alignment": 0}), "general.alignment 0 is no power"),
    "text alignment": (gguf_bytes.file({"general.alignment": "x"}), "general.alignment 'x' is no"),
    "axes": (gguf_bytes.file({}, [gguf_bytes.tensor("t", [1] * 5)]), "'t' has 5 axes; from 1 to 4"),
    "no axes": (gguf_bytes.file({}, [gguf_bytes.tensor("t", [])]), "'t' has 0 axes; from 1 to 4"),
    "size": (gguf_bytes.file({}, [gguf_bytes.tensor("t", [HUGE])]), "'t' ends beyond its 64 bytes"),
    "overflow": (
        gguf_bytes.file({}, [gguf_bytes.tensor("t", [1 << 62, 1 << 62, 4])]),
        "'t' ends beyond its",
    ),
    "offset": (
        gguf_bytes.file({}, [gguf_bytes.tensor("t", [1], offset=HUGE)]),
        "'t' ends beyond its",
    ),
    "odd offset": (
        gguf_bytes.file({}, [gguf_bytes.tensor("t", [1], offset=7)]),
        "'t' is at 7, no multiple of 32",
    ),
    "kind": (gguf_bytes.file({}, [gguf_bytes.tensor("t", [1], 99)]), "'t' cannot be read (99 is"),
    "blocks": (gguf_bytes.file({}, [gguf_bytes.tensor("t", [33], 8)]), "'t' cannot be read"),
    "two tensors": (
        gguf_bytes.file({}, [gguf_bytes.tensor("t", [1]), gguf_bytes.tensor("t", [1])]),
        "tensor 't' is stored twice",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str, tmp_path: Path) -> None:
    raw, message = BROKEN[name]
    tracemalloc.start()
    found = refusal(raw, tmp_path / "broken.gguf")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in found
    assert peak < 1 << 22


def test_hole_of_a_terabyte(tmp_path: Path) -> None:
    """A file that is long but empty does not buy more entries."""
    pairs = {"a.b": gguf_bytes.array(STRING, b"", 1 << 32)}
    path = tmp_path / "sparse.gguf"
    path.write_bytes(gguf_bytes.file(pairs))
    with path.open("r+b") as file:
        file.truncate(HUGE)
    with pytest.raises(UserError, match="asks for 4294967296 strings; at most"):
        read_header(path)
    path.write_bytes(gguf_bytes.file({"a.b": struct.pack("<IQ", STRING, 1 << 36)}))
    with path.open("r+b") as file:
        file.truncate(HUGE)
    with pytest.raises(UserError, match=r"'a.b' asks for 6871947673\d bytes of text; at most"):
        read_header(path)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.gguf: cannot be read"):
        read_header(tmp_path / "absent.gguf")
    folder = tmp_path / "folder.gguf"
    folder.mkdir()
    with pytest.raises(UserError, match=r"folder.gguf: cannot be read"):
        read_header(folder)
