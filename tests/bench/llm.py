"""What `LLM.generate` adds to the bare sampler, in one run: same weights, prompt and tokens.

    python -m tests.bench.llm [--weights=FOLDER] [--candidates=16] [--tokens=64] [--rounds=9]

Both take turns, round by round. Printed are the seconds of each round, their ratio, and the median
of the ratios, which is to lie below 1.05. FOLDER is a Hugging Face checkpoint with its tokenizer;
without it the model is `embedded:large`, which is so small that next to nothing hides an overhead.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from ttc_jax import LLM, Sampler

PROMPT = "04 07 13 25=88:"


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", default="embedded:large", help="Hugging Face folder")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    n, tokens = options.candidates, options.tokens
    llm = LLM(options.weights, rows=n)
    # Completions of one length on both sides, whatever is drawn.
    llm.tokenizer.eos_ids = ()
    sampler = Sampler(llm.generator, end_tokens=(), candidates=n, max_new_tokens=tokens)
    prompt = llm.tokenizer.encode(PROMPT, add_bos=True)

    def ours() -> None:
        [output] = llm.generate(prompt, n=n, max_tokens=tokens)
        assert output.ledger.decode_tokens == n * tokens

    def bare() -> None:
        assert (sampler.sample([prompt], [0]).lengths == tokens).all()

    print(f"{options.weights}, N={n}, {tokens} tokens")
    ratios = []
    for number in range(options.rounds + 1):
        took = [seconds(call) for call in (ours, bare)]
        if number:  # the first one compiles
            ratios.append(took[0] / took[1])
            print(f"generate {took[0]:.3f} s  sampler {took[1]:.3f} s  ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


def seconds(call: Callable[[], None]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
