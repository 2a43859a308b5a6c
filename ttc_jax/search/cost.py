"""The cost of a question: from the trace of its search and the lengths of its prompts."""

from __future__ import annotations

import numpy as np

from ttc_jax.compute.flops import Cumulative, generator_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.models.config import ModelConfig
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import SearchTrace
from ttc_jax.verifiers.verifier import Verifier


class CostModel:
    """Counts the tokens and FLOPs of questions that were searched with one plan.

    Args:
      generator: shape of the model that writes.
      verifier: the model that scores; None: nothing is scored.
    """

    def __init__(self, generator: ModelConfig, verifier: Verifier | None, plan: Plan):
        self._plan = plan
        self._reads_prompt = verifier is not None and verifier.spec.reads_tokens
        self._reading = Cumulative(lambda n: generator_flops(generator, 0, n, logits=0))
        self._decoding = Cumulative(lambda n: generator_flops(generator, 0, n, logits=n))
        self._judging = Cumulative(lambda n: verifier.flops(0, n) if verifier is not None else 0)

    def ledger(self, trace: SearchTrace, prompt: int, shown: int, *, cut: bool = False) -> Ledger:
        """Returns what a question cost.

        Its prompts are read once, but for their last tokens, which every candidate is fed
        (`KVCache`).

        Args:
          trace: arrays [R, N], of the rounds that came.
          prompt: tokens that the generator read before it wrote.
          shown: the same of the verifier.
          cut: whether the search ended before its time: then only answers that were begun count.
        """
        shared, seen, N = np.array(prompt - 1), np.array(shown - 1), self._plan.candidates
        # Rounds in which rows began to revise, for which they had read their contexts.
        again = np.flatnonzero(np.diff(trace.answers[:, 0])) + 1
        contexts = int(trace.contexts[again].sum())
        answers = int(trace.answers.max(initial=0)) + 1 if cut else self._plan.revisions
        cost = Ledger(
            generations=N * (self._plan.lookahead + 1) * answers,
            prefill_tokens=int(shared) + contexts,
            decode_tokens=int((trace.ends - trace.starts).sum()),
            lookahead_tokens=int((trace.lookahead_ends - trace.ends).sum()),
            verifier_tokens=(int(seen) + contexts) * self._reads_prompt
            + int((trace.verifier_tokens + trace.lookahead_verifier_tokens).sum()),
            generator_flops=int(self._reading(shared)),
            verifier_flops=int(self._judging(seen)),
        )
        cost += self._generator_flops(trace, shared, again)
        return cost + self._verifier_flops(trace, seen, again)

    def _generator_flops(self, trace: SearchTrace, shared: np.ndarray, again: np.ndarray) -> Ledger:
        """Returns the FLOPs of the generator, with caches and with all read anew for every step."""
        cached = anew = 0
        for r in range(len(trace.starts)):
            context = shared + trace.contexts[r]
            if r in again:
                cached += (self._reading(context) - self._reading(shared)).sum()
            first, end = context + trace.starts[r], context + trace.lookahead_ends[r]
            decoded = self._decoding(end) - self._decoding(first)
            cached += decoded.sum()
            anew += (decoded + self._reading(first))[end > first].sum()
        return Ledger(generator_flops=int(cached), uncached_generator_flops=int(anew))

    def _verifier_flops(self, trace: SearchTrace, seen: np.ndarray, again: np.ndarray) -> Ledger:
        """Returns the FLOPs of the verifier, with caches and with all read anew for every step."""
        cached = anew = 0
        stored = np.zeros(self._plan.candidates, np.int64)  # tokens in its cache, a row
        for r in range(len(trace.starts)):
            if r in again:
                stored = trace.contexts[r]
                cached += (self._judging(seen + stored) - self._judging(seen)).sum()
            read, first = trace.verifier_tokens[r], seen + stored
            judged = self._judging(first + read + trace.lookahead_verifier_tokens[r])
            cached += (judged - self._judging(first))[read > 0].sum()
            anew += judged[read > 0].sum()
            stored = (stored + read)[trace.parents[r]]
        return Ledger(verifier_flops=int(cached), uncached_verifier_flops=int(anew))
