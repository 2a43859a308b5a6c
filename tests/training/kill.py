"""Trains a tiny model, kills the training again and again, and lets it end.

    python -m tests.training.kill --times=5

compares what is left with an uninterrupted run's, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.flags import xla_flags

ROOT = Path(__file__).parents[2]
STEPS = 30


def run(folder: Path, die_at: int) -> None:
    """The training; it is killed when it asks for batch number `die_at`."""
    from flax import nnx

    from ttc_jax.models import parameters
    from ttc_jax.models.config import ModelConfig
    from ttc_jax.models.transformer import Transformer
    from ttc_jax.training import sft
    from ttc_jax.training.batches import Batch, Batches, Example
    from ttc_jax.training.loop import fit
    from ttc_jax.training.optimisation import Optimisation

    class Deadly(Batches):
        def batch(self, step: int) -> Batch:
            if step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().batch(step)

    config = ModelConfig(
        vocab_size=11, width=8, depth=1, heads=2, kv_heads=1, head_size=4, ffn_width=12, context=16
    )
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 11, rng.integers(3, 17)) for _ in range(40)]
    examples = [
        Example(x[:-1], x[1:].astype(np.float32), np.ones(len(x) - 1, np.float32), 1)
        for x in sequences
    ]
    layout = {"lengths": (16,), "tokens": 64, "seed": 0, "multiple": 2}
    train, validation = Deadly(examples[8:], **layout), Batches(examples[:8], **layout)
    model = Transformer(config, rngs=nnx.Rngs(0))
    optimisation = Optimisation(
        steps=STEPS,
        learning_rate=0.02,
        warmup=5,
        accumulate=2,
        dropout=0.1,
        evaluate_every=4,
        past_best=2,
    )
    fit(model, sft.loss, train, validation, optimisation, folder)
    arrays = {name: np.asarray(x) for name, x in parameters.named(model).items()}
    np.savez(folder / "weights.npz", **arrays)  # pyright: ignore[reportArgumentType]


def start(folder: Path, die_at: int = -1) -> subprocess.Popen[bytes]:
    """The training in a process of its own."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.training.kill", f"--run={folder}"]
    quick = {
        "XLA_FLAGS": xla_flags(devices=1),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [*command, f"--die-at={die_at}"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **quick},
    )


def killed_and_resumed(folder: Path, times: int, seed: int) -> list[int]:
    """Trains in folder/whole, and in folder/killed with as many kills; asserts that they agree.

    Returns:
      The steps at which it was killed.
    """
    steps = np.sort(np.random.default_rng(seed).choice(STEPS - 5, times, replace=False) + 5)
    whole, killed = folder / "whole", folder / "killed"
    for step in steps.tolist():
        assert start(killed, step).wait() == -signal.SIGKILL
    runs = [start(whole), start(killed)]
    assert [run.wait() for run in runs] == [0, 0]
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    with np.load(whole / "weights.npz") as a, np.load(killed / "weights.npz") as b:
        assert a.keys() == b.keys()
        for name, array in a.items():
            np.testing.assert_array_equal(array, b[name], name)
    return steps.tolist()


def main() -> None:
    """As the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--die-at", type=int, default=-1)
    args = parser.parse_args()
    if args.run:
        run(args.run, args.die_at)
        return
    with tempfile.TemporaryDirectory() as folder:
        steps = killed_and_resumed(Path(folder), args.times, args.seed)
    print(f"killed at steps {steps}: metrics.jsonl and weights as without, bit for bit")


if __name__ == "__main__":
    main()
