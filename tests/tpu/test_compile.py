"""The sampler and the search, compiled for TPU slices by the TPU compiler itself.

Two of the sixteen layers of Llama-3.2-1B, which are all alike.
"""

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import NamedSharding

from tests.sampling.oracle import TINY
from ttc_jax import cli, logs
from ttc_jax.jobs.compile import _read_a_token
from ttc_jax.models import parameters
from ttc_jax.models.attention import causal_attention
from ttc_jax.models.scoring import Scoring
from ttc_jax.models.shapes import known
from ttc_jax.models.transformer import Transformer
from ttc_jax.sharding.mesh import P, make_mesh
from ttc_jax.tpu.program import device_bytes
from ttc_jax.tpu.topology import describe

HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
LAYERS, DEPTH, N = 2, 16, 64
CONFIGS = Path(__file__).parents[2] / "configs"

needs_libtpu = pytest.mark.skipif(
    not HAS_LIBTPU and os.environ.get("TTC_REQUIRE_LIBTPU") != "1",
    reason="libtpu is not installed",
)


def compiled(folder: Path, topology: str, data: int, *flags: str) -> dict[str, dict]:
    """Programs by name, as `ttc compile --json` writes them."""
    (folder / "llama").mkdir()
    shape = known()["meta-llama/Llama-3.2-1B-Instruct"] | {"num_hidden_layers": LAYERS}
    (folder / "llama" / "config.json").write_text(json.dumps(shape))
    path = folder / "llama"
    code = cli.main(
        [
            "compile",
            f"--config={CONFIGS / 'math.py'}",
            f"--topology={topology}",
            f"--json={folder / 'programs.json'}",
            "--program=segment",
            f"--config.generator.path={path}",
            "--config.generator.dtype=bfloat16",
            f"--config.execution.mesh.data={data}",
            f"--config.execution.rows={data * N}",
            f"--config.sampling.n={N}",
            "--config.sampling.max_new_tokens=1024",
            *(flag.format(path=path) for flag in flags),
        ]
    )
    assert code == 0
    found = json.loads((folder / "programs.json").read_text())
    return {program["name"]: program for program in found["programs"]}


@pytest.fixture(scope="module")
def optimised():
    """Programs as they are on a TPU: other tests compile for speed of compilation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "set_up", lambda: None)
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def sampler(optimised, tmp_path_factory: pytest.TempPathFactory):
    # Best-of-N without a verifier decodes to the end: the sampler's loop.
    return compiled(tmp_path_factory.mktemp("sampler"), "v5e:2x4", 8)


@pytest.fixture(scope="module")
def search(optimised, tmp_path_factory: pytest.TempPathFactory):
    return compiled(
        tmp_path_factory.mktemp("search"),
        "v6e:4x4",
        16,
        "--config.search.strategy=beam",
        "--config.verifier.path={path}",
        "--config.verifier.dtype=bfloat16",
    )


@pytest.fixture(scope="module")
def narrow(optimised, tmp_path_factory: pytest.TempPathFactory):
    int8 = ("--config.generator.weights=int8", "--config.generator.cache=int8")
    return compiled(tmp_path_factory.mktemp("narrow"), "v5e:2x4", 8, *int8)


@pytest.fixture(scope="module")
def shared(optimised, tmp_path_factory: pytest.TempPathFactory):
    """A search whose rows share histories, with the generator alone."""
    return compiled(
        tmp_path_factory.mktemp("shared"),
        "v5e:2x4",
        8,
        "--config.search.strategy=beam",
        "--config.verifier.path=confidence:log_prob",
        "--config.execution.cache=shared",
    )


@pytest.fixture(params=("sampler", "search", "narrow", "shared"))
def segment(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)["segment"]


@needs_libtpu
def test_donated_caches_are_written_in_place(segment):
    assert segment["cache_bytes"] > 1.5 * LAYERS * N * 1024 * 8 * 64
    # All else of the state is small.
    assert segment["cache_bytes"] <= segment["alias_bytes"] <= 1.05 * segment["cache_bytes"]


@needs_libtpu
def test_temporary_memory_is_small(segment):
    # What there is does not grow with layers: it is of one at a time, and of the vocabulary.
    assert segment["temp_bytes"] <= 0.1 * segment["cache_bytes"] * DEPTH / LAYERS


@needs_libtpu
def test_a_token_moves_little_more_than_weights_and_caches(segment):
    assert segment["bytes_accessed"] <= 1.25 * segment["ideal_bytes"]
    assert segment["bound"] == "memory"


@needs_libtpu
def test_questions_over_data_exchange_nothing(segment):
    """Neither do the beams of a question, which are gathered inside it."""
    assert segment["all_collectives"] == []
    assert segment["host_transfers"] == []


@needs_libtpu
def test_int8_holds_and_moves_about_half(sampler, narrow):
    wide, segment = sampler["segment"], narrow["segment"]
    for kind in ("weight_bytes", "cache_bytes"):
        assert segment[kind] < 0.55 * wide[kind], kind
    assert segment["bytes_accessed"] < 0.6 * wide["bytes_accessed"]  # logits are no narrower


@needs_libtpu
def test_shared_histories_are_a_part_of_what_is_held_and_moved(sampler, shared):
    """A quarter of the slots at M = 4, and of each row a step of 64 tokens."""
    apart, together = sampler["segment"], shared["segment"]
    assert together["cache_bytes"] < 0.45 * apart["cache_bytes"]
    saved = apart["cache_bytes"] - together["cache_bytes"]
    assert together["bytes_accessed"] < apart["bytes_accessed"] - 0.7 * saved


@needs_libtpu
def test_long_sequences_are_read_by_the_kernel_over_a_mesh(optimised):
    """The backward pass too, with a window, a soft cap, narrow heads and a prefix."""
    mesh = make_mesh(2, 4, describe("v5e:2x4").devices)
    place, scoring = NamedSharding(mesh, P("data", None, "model")), Scoring(0.1, 50.0, 1024)
    T, before = 4000, 190
    shapes = (2, T, 4, 2, 64), (2, before + T, 4, 64), (2, before + T, 4, 64)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in shapes]

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return causal_attention(q, k, v, scoring).astype(jnp.float32).sum()

    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arrays).compile()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    assert text is not None
    assert memory is not None
    assert text.count('custom_call_target="tpu_custom_call"') == 3  # output; queries; keys, values
    assert memory.temp_size_in_bytes < T * T  # plain attention: 16 bytes for each score of a pair


@pytest.mark.parametrize("tied", [True, False])
def test_of_an_embedding_that_is_no_head_a_token_takes_a_row(tied: bool):
    shape = dataclasses.replace(TINY, tied_head=tied)
    generator = parameters.outline(lambda: Transformer(shape, rngs=nnx.Rngs(0)))
    bare = parameters.outline(lambda: Transformer(TINY, rngs=nnx.Rngs(0)))
    assert _read_a_token(generator) == device_bytes(nnx.state(bare))


def test_an_unknown_topology_is_refused_with_the_list(capsys):
    argv = ["compile", f"--config={CONFIGS / 'math.py'}", "--topology=v5e:3x3"]
    assert cli.main(argv) == 2
    assert "--topology=v5e:3x3: must be one of v4:2x2x1, " in capsys.readouterr().err


def test_without_libtpu_it_says_how_to_get_it(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    argv = ["compile", f"--config={CONFIGS / 'math.py'}", "--topology=v5e:2x4"]
    assert cli.main(argv) == 2
    assert "pip install 'ttc_jax[tpu]'" in capsys.readouterr().err


@needs_libtpu
@pytest.mark.parametrize(("data", "fitting"), [(16, "v5e:4x4"), (4, "v5e:2x2")])
def test_a_mesh_of_more_or_fewer_chips_is_refused(capsys, data: int, fitting: str):
    argv = ["compile", f"--config={CONFIGS / 'math.py'}", "--topology=v5e:2x4"]
    shape = "--config.generator.path=meta-llama/Llama-3.2-1B-Instruct"
    assert cli.main([*argv, shape, f"--config.execution.mesh.data={data}"]) == 2
    said = f"needs {data} devices; --topology=v5e:2x4 has 8 ({fitting})"
    assert said in capsys.readouterr().err
