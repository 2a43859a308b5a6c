"""Our own model folders."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from ttc_jax.errors import UserError
from ttc_jax.models import checkpoints, parameters
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.config import ModelConfig, Rope
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.sharding.mesh import make_mesh

CONFIG = ModelConfig(
    vocab_size=64, width=48, depth=4, heads=8, kv_heads=8, head_size=6, ffn_width=120, context=96,
    windows=(None, 8, None, 8), ropes=(Rope(), Rope(5e3)) * 2,
)  # fmt: skip
METADATA = {"command": "ttc train", "seed": 3, "tokens": 12_000, "loss": 0.25}


class Probe(nnx.Module):
    """Any module will do."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.inner = nnx.Linear(width, 1, rngs=rngs)


def build(seed: int = 0) -> Transformer:
    return Transformer(CONFIG, rngs=nnx.Rngs(seed))


def save(folder: Path, seed: int = 0) -> Transformer:
    model = build(seed)
    checkpoints.save_model(folder, model, tokenizer=CharTokenizer("ab="), metadata=METADATA)
    return model


def assert_same(one: nnx.Module, other: nnx.Module) -> None:
    mine, its = parameters.named(one), parameters.named(other)
    assert list(mine) == list(its)
    for name in mine:
        np.testing.assert_array_equal(mine[name], its[name])


def test_round_trip(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    loaded = load_generator(tmp_path / "model")
    assert loaded.config == CONFIG
    assert_same(model, loaded)
    found = checkpoints.describe(tmp_path / "model")
    assert (found.kind, found.metadata) == ("generator", METADATA)
    assert load_tokenizer(tmp_path / "model").encode("a=b") == [2, 4, 3]
    narrow = load_generator(tmp_path / "model", dtype=jnp.bfloat16)
    assert {array.dtype for array in parameters.named(narrow).values()} == {jnp.dtype(jnp.bfloat16)}


def test_small_on_disk_and_no_pickle(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    needed = sum(array.nbytes for array in parameters.named(model).values())
    assert sum(path.stat().st_size for path in files) < 1.1 * needed + 30_000
    assert len(files) < 25
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt")]


@pytest.mark.parametrize(("saved", "wanted"), [((4, 2), (2, 4)), ((2, 4), (8, 1))])
def test_onto_another_mesh(tmp_path: Path, saved: tuple[int, int], wanted: tuple[int, int]) -> None:
    model = save(tmp_path / "one")
    split = load_generator(tmp_path / "one", mesh=make_mesh(*saved))
    checkpoints.save_model(tmp_path / "two", split, tokenizer=None, metadata={})
    again = load_generator(tmp_path / "two", mesh=make_mesh(*wanted))
    assert_same(model, again)
    qkv = parameters.named(again)["layers.blocks.0.attention.qkv"]
    assert {shard.data.shape[1] for shard in qkv.addressable_shards} == {8 // wanted[1]}
    assert_same(model, load_generator(tmp_path / "two"))


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(tmp_path / "model", seed=0)
    newer = save(tmp_path / "model", seed=1)
    assert_same(newer, load_generator(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_model(tmp_path: Path) -> None:
    class Full(CharTokenizer):
        def save(self, folder: Path) -> None:
            raise OSError(28, "No space left on device", str(folder))

    old = save(tmp_path / "model", seed=0)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_model(tmp_path / "model", build(1), tokenizer=Full("ab"), metadata={})
    assert_same(old, load_generator(tmp_path / "model"))


def test_any_module_of_its_own_kind(tmp_path: Path) -> None:
    probe = Probe(5, rngs=nnx.Rngs(7))
    description = checkpoints.Description("probe", {"width": 5}, {})
    checkpoints.save(tmp_path / "probe", probe, description)
    found = checkpoints.describe(tmp_path / "probe", "probe")
    again = checkpoints.restore(
        tmp_path / "probe", lambda: Probe(found.config["width"], rngs=nnx.Rngs(0))
    )
    assert_same(probe, again)
    with pytest.raises(UserError, match="holds a probe, not a generator"):
        load_generator(tmp_path / "probe")


def test_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.json: missing; is .*absent a whole model folder"):
        checkpoints.load_model(tmp_path / "absent")
    (tmp_path / "model.json").write_text('{"kind": "generator"}')
    with pytest.raises(UserError, match=r"model.json: config is missing$") as caught:
        checkpoints.load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_parameters_of_another_architecture(tmp_path: Path) -> None:
    save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    data = json.loads(file.read_text())
    data["config"] |= {"ffn_width": 60, "tied_head": False}
    file.write_text(json.dumps(data))
    (tmp_path / "model" / "checksums.json").unlink()  # or the change itself is refused
    with pytest.raises(UserError) as caught:
        load_generator(tmp_path / "model")
    message = str(caught.value)
    assert "missing head" in message
    assert "layers.blocks.0.ffn.down is [120, 48], not [60, 48]" in message
    assert "\n" not in message


def test_absurd_depth_is_refused_before_any_layer_is_made(tmp_path: Path) -> None:
    save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    data = json.loads(file.read_text())
    data["config"] |= {"depth": 1000, "windows": [], "ropes": []}
    file.write_text(json.dumps(data))
    (tmp_path / "model" / "checksums.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="describes 1000 layers, and parameters/ holds 4"):
        load_generator(tmp_path / "model")


def parameter_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "parameters").rglob("*") if path.is_file())


# Of reads that fail Orbax leaves coroutines behind that nobody awaits.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_that_are_cut_off(tmp_path: Path) -> None:
    """Every file of them: harmless, or said in one line."""
    save(tmp_path / "model")
    refused: list[str] = []
    for file in parameter_files(tmp_path / "model"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        try:
            load_generator(tmp_path / "model")
        except UserError as error:
            refused.append(str(error))
        file.write_bytes(content)
    gc.collect()  # or the coroutines trouble a later test
    assert refused
    for message in refused:
        assert "\n" not in message
        assert str(tmp_path / "model") in message
        assert "copy the folder anew" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": 3}, "kind is 3; it must be a text"),
        ({"kind": None}, "kind is None"),
        ({"config": []}, r"config is \[\]; it must be an object"),
        ({"config": "x"}, "config is 'x'"),
        ({"metadata": None}, "metadata is None; it must be an object"),
        ({"surprise": 1}, "surprise is unknown"),
    ],
)
def test_descriptions_of_another_shape(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    good = {"kind": "generator", "config": CONFIG.to_json(), "metadata": {}}
    (tmp_path / "model.json").write_text(json.dumps({**good, **changes}))
    with pytest.raises(UserError, match=rf"model\.json: {message}"):
        load_generator(tmp_path)


def test_lost_parameters(tmp_path: Path) -> None:
    save(tmp_path / "model")
    (tmp_path / "model" / "parameters").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="parameters/ is lost or damaged") as caught:
        load_generator(tmp_path / "model")
    assert "\n" not in str(caught.value)
    with ocp.StandardCheckpointer() as checkpointer:  # Orbax reads it without us
        assert "embedding" in checkpointer.restore(tmp_path / "elsewhere")
