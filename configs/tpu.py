"""MATH-500 with public generators and PRMs on TPU slices: beam search with 64 candidates.

A variant is a pair of models and a slice, with a comma between them:

    ttc run --config=configs/tpu.py:llama3.2-1b,v5e-8 --workdir=/results/llama

searches on a machine with one v5e-8. On a slice of several hosts every worker runs the same with
--hosts=auto, as launch/tpu_vm.sh and launch/xpk.sh do: each searches its share of the questions on
its own chips, so that `mesh` is that of one host.

    pair           generator (…-Instruct)   verifier
    llama3.2-1b    Llama-3.2-1B             RLHFlow/Llama3.1-8B-PRM-Deepseek-Data
    llama3.2-3b    Llama-3.2-3B             the same
    llama3.1-8b    Llama-3.1-8B             the same
    qwen2.5-1.5b   Qwen2.5-1.5B             Qwen/Qwen2.5-Math-PRM-7B
    qwen2.5-7b     Qwen2.5-7B               the same

    slice     hosts × chips   HBM of a chip
    v5e-8      1 × 8          15.75 GiB
    v5e-16     4 × 4          15.75 GiB
    v6e-8      1 × 8          31.25 GiB
    v5p-8      1 × 4          95.74 GiB
    v6e-256   64 × 4          31.25 GiB

What a chip holds, in bfloat16, for B questions of N candidates, with L layers and K key/value heads
of size h (where K is less than `model`, as in the smaller Qwen, heads are copied):

    weights   2 bytes × (generator + verifier) / model
    caches    4 bytes × (P + N T) L K h B / data / min(model, K), for the generator and the verifier

P is 1024 at most: a prompt is stored once for its N candidates. T is 2048 in the generator, and 512
more in the verifier, for its markers between steps. A token takes 32, 112 and 128 KiB in Llama 1B,
3B and 8B, 28 and 56 KiB in Qwen 1.5B and 7B.

So Llama-3.2-1B and its PRM have 17.3 GiB of weights, and a question of 64 candidates takes 4.0 GiB
of cache in the generator and 20.1 in the PRM. With model=4 that is 4.3 + 6.0 = 10.4 GiB of a v5e
chip; with model=1 two questions take 17.3 + 2 × 24.2 = 65.6 GiB of a v5p chip. `_LAYOUT` has the
smallest `model` with which a question fits, for the least to be exchanged between chips, and then
as many questions as fit, doubling. 20 % of the HBM stay free for what XLA needs beside. Llama
3.2-3B and 3.1-8B on v5e-16 have to do with N = 32.

Llama is gated: its licence is accepted on the hub, and workers need a token (--token of
launch/tpu_vm.sh).
"""

from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.config import load_config
from ttc_jax.errors import UserError

PAIRS = {
    "llama3.2-1b": ("meta-llama/Llama-3.2-1B-Instruct", "llama"),
    "llama3.2-3b": ("meta-llama/Llama-3.2-3B-Instruct", "llama"),
    "llama3.1-8b": ("meta-llama/Llama-3.1-8B-Instruct", "llama"),
    "qwen2.5-1.5b": ("Qwen/Qwen2.5-1.5B-Instruct", "qwen"),
    "qwen2.5-7b": ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
}
# Variants of math.py, which say what judges a family and how it is asked.
_FAMILIES = {"llama": "llama3_2_1b", "qwen": "qwen2_5_1_5b"}
SLICES = {  # and what `ttc compile --topology` calls one host of it
    "v5e-8": "v5e:2x4",
    "v5e-16": "v5e:2x2",
    "v6e-8": "v6e:2x4",
    "v5p-8": "v5p:2x2x1",
    "v6e-256": "v6e:2x2",
}
_LAYOUT = {  # (data, model, questions, candidates) of a host, by slice
    "llama3.2-1b": ((2, 4, 2, 64), (1, 4, 1, 64), (4, 2, 4, 64), (4, 1, 8, 64), (2, 2, 2, 64)),
    "llama3.2-3b": ((1, 8, 2, 64), (1, 4, 1, 32), (2, 4, 4, 64), (4, 1, 4, 64), (1, 4, 2, 64)),
    "llama3.1-8b": ((1, 8, 1, 64), (1, 4, 1, 32), (2, 4, 2, 64), (4, 1, 4, 64), (1, 4, 1, 64)),
    "qwen2.5-1.5b": ((2, 4, 4, 64), (1, 4, 2, 64), (4, 2, 8, 64), (4, 1, 16, 64), (2, 2, 4, 64)),
    "qwen2.5-7b": ((2, 4, 2, 64), (1, 4, 1, 64), (4, 2, 4, 64), (4, 1, 8, 64), (2, 2, 2, 64)),
}


def get_config(variant: str = "qwen2.5-1.5b,v5e-8") -> ConfigDict:
    pair, _, chips = variant.partition(",")
    if pair not in PAIRS or chips not in SLICES:
        raise UserError(
            f"--config=configs/tpu.py:{variant}: must be one of {', '.join(PAIRS)}, then a comma "
            f"and one of {', '.join(SLICES)}"
        )
    generator, family = PAIRS[pair]
    layouts = dict(zip(SLICES, _LAYOUT[pair], strict=True))
    data, model, questions, candidates = layouts[chips]
    config = load_config(f"{Path(__file__).with_name('math.py')}:{_FAMILIES[family]}")
    with config.unlocked():
        config.update(
            limit=0,  # all of the 500
            execution={
                "rows": questions * candidates,
                "mesh": {"data": data, "model": model},
            },
            generator={"path": generator},
            sampling={
                "n": candidates,
                "temperature": 0.8,
                "max_new_tokens": 2048,
            },
            search={"strategy": "beam", "max_step_tokens": 512},
        )
    return config
