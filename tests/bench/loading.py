"""Peak memory of processes that load a checkpoint over a mesh, each its part.

    python -m tests.bench.loading [--gigabytes=1] [--processes=2] [--json=FILE]

writes a checkpoint of random float32 weights of that size into a temporary folder, loads it by so
many processes at once, each with one device of a mesh of `model` = processes, and prints what the
fullest of them took beyond what it held before, as JAX's arrays on a CPU are host memory too.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.loading import load_together
from tests.models.small import write_folder

MB = 10**6
LAYER = 45.1 * MB  # of the model below; its embedding has 33.6 MB


def measure(gigabytes: float, processes: int) -> dict[str, Any]:
    """Sizes in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder, tensors = Path(name), write_checkpoint(Path(name), gigabytes * 1000 * MB)
        found = load_together(folder, processes, free_port())
    return {
        "checkpoint_mb": sum(x.nbytes for x in tensors.values()) / MB,
        "largest_tensor_mb": max(x.nbytes for x in tensors.values()) / MB,
        "shard_mb": max(x["shard_bytes"] for x in found) / MB,
        "peak_mb": max(x["peak_bytes"] for x in found) / MB,
    }


def write_checkpoint(folder: Path, size: float) -> dict[str, np.ndarray]:
    """A Llama of about `size` bytes, and its tensors."""
    D, F, V = 1024, 2816, 8192
    fields = {
        "model_type": "llama",
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": max(1, round((size - 4 * V * D) / LAYER)),
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    rng = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    for i in range(fields["num_hidden_layers"]):
        layer = {
            "self_attn.q_proj": (D, D),
            "self_attn.k_proj": (D // 4, D),
            "self_attn.v_proj": (D // 4, D),
            "self_attn.o_proj": (D, D),
            "mlp.gate_proj": (F, D),
            "mlp.up_proj": (F, D),
            "mlp.down_proj": (D, F),
            "input_layernorm": (D,),
            "post_attention_layernorm": (D,),
        }
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    tensors = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    write_folder(folder, fields, tensors)
    return tensors


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    found = measure(options.gigabytes, options.processes)
    print(
        f"{options.processes} processes load {found['checkpoint_mb']:,.0f} MB: each keeps "
        f"{found['shard_mb']:,.0f} MB and takes {found['peak_mb']:,.0f} MB at most; the largest "
        f"tensor has {found['largest_tensor_mb']:,.0f} MB"
    )
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
