"""One of several processes that load a model over a mesh together, and how much memory that takes.

    python -m tests.models.loading FOLDER PORT COUNT INDEX

loads FOLDER over a mesh of `model` = COUNT, one device a process, and prints a line of JSON:
`peak_bytes` beyond what the process held before, at its highest, `shard_bytes` of the parameters on
its device, and `device_sums`, float64 sums of these by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.flags import xla_flags

PEAK, NOW = "VmHWM", "VmRSS"  # of /proc/self/status; file pages that are mapped count too


def load_together(folder: Path, count: int, port: int) -> list[dict[str, Any]]:
    """What each of `count` processes prints."""
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices=1)}
    command = [sys.executable, "-m", "tests.models.loading", str(folder), str(port), str(count)]
    running = [
        subprocess.Popen(
            [*command, str(index)], env=os.environ | flags, stdout=subprocess.PIPE, text=True
        )
        for index in range(count)
    ]
    outputs = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count
    return [json.loads(output) for output in outputs]


def memory(field: str) -> int:
    """Bytes, of this process."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if field in x)
    return int(line.split()[1]) * 1024


def main(folder: str, port: str, count: str, index: str) -> None:
    import jax
    import numpy as np

    from ttc_jax.models import parameters
    from ttc_jax.models.hub import transformers
    from ttc_jax.models.weights import load_generator
    from ttc_jax.sharding.mesh import make_mesh

    jax.distributed.initialize(f"localhost:{port}", int(count), int(index))
    mesh = make_mesh(1, int(count))
    jax.device_put(np.zeros(8)).block_until_ready()
    assert transformers().CONFIG_MAPPING["llama"]  # what reads config.json is no part of it
    before = memory(NOW)
    model = load_generator(folder, mesh=mesh)
    jax.block_until_ready(list(parameters.named(model).values()))
    peak = memory(PEAK) - before
    own = {name: x.addressable_shards[0].data for name, x in parameters.named(model).items()}
    found = {
        "peak_bytes": peak,
        "shard_bytes": sum(x.nbytes for x in own.values()),
        "device_sums": {name: float(np.asarray(x).sum(dtype=float)) for name, x in own.items()},
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
