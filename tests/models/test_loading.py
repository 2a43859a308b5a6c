"""Processes that load a model together: each reads its part, and holds no more than that needs."""

import sys
from pathlib import Path

import pytest

from tests.bench.loading import MB, free_port, write_checkpoint
from tests.models.loading import load_together


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_takes_its_half_and_one_tensor(tmp_path: Path) -> None:
    tensors = write_checkpoint(tmp_path, 213 * MB)
    size, largest = sum(x.nbytes for x in tensors.values()), max(x.nbytes for x in tensors.values())
    assert size > 200 * MB
    halves = load_together(tmp_path, 2, free_port())
    for half in halves:
        assert half["shard_bytes"] == pytest.approx(size / 2, rel=0.01)
        # Beside the tensors: code that loading brings in, threads, what the allocator keeps.
        assert half["peak_bytes"] < half["shard_bytes"] + largest + 32 * MB
    whole = {name: float(x.sum(dtype=float)) for name, x in tensors.items()}
    one, other = (half["device_sums"] for half in halves)
    found = {name: one[name] + other[name] for name in one}
    assert one["final_norm.scale"] == other["final_norm.scale"] == whole["model.norm.weight"]
    assert found["embedding"] == pytest.approx(whole["model.embed_tokens.weight"])
    layer = {name.removeprefix("model.layers.0."): x for name, x in whole.items()}
    block, attention, ffn = "layers.blocks.0", "self_attn.{}_proj.weight", "mlp.{}_proj.weight"
    qkv = sum(layer[attention.format(x)] for x in "qkv")
    assert found[f"{block}.attention.qkv"] == pytest.approx(qkv)
    assert found[f"{block}.attention.out"] == pytest.approx(layer[attention.format("o")])
    both = layer[ffn.format("gate")] + layer[ffn.format("up")]
    assert found[f"{block}.ffn.gate_up"] == pytest.approx(both)
    assert found[f"{block}.ffn.down"] == pytest.approx(layer[ffn.format("down")])
