"""The metrics of a server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ttc_jax.compute.ledger import Ledger
from ttc_jax.serve.worker import Worker

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What a server counts; each server has its own.

    Args:
      worker: whose queue and slots are looked at.
    """

    def __init__(self, worker: Worker):
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "ttc_requests_total",
            "Requests, by path and status.",
            ("path", "status"),
            registry=registry,
        )
        self.in_flight = Gauge(
            "ttc_requests_in_flight", "Requests that wait or are being answered.", registry=registry
        )
        self.seconds = Histogram(
            "ttc_request_seconds", "Time to a whole answer.", buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter(
            "ttc_tokens_total", "Tokens read and drawn.", ("kind",), registry=registry
        )
        self._flops = Counter("ttc_flops_total", "FLOPs spent.", ("model",), registry=registry)
        self._generations = Counter("ttc_generations_total", "Answers drawn.", registry=registry)
        for name, about, of in (
            ("ttc_questions_waiting", "Questions that wait for a slot.", lambda: worker.waiting),
            ("ttc_questions_in_slots", "Questions being searched.", lambda: worker.in_slots),
            (
                "ttc_useful_share",
                "Rows decoded for a question, over all decoded.",
                lambda: worker.work.useful_share,
            ),
        ):
            Gauge(name, about, registry=registry).set_function(of)

    def spent(self, ledger: Ledger) -> None:
        """Counts what an answer cost."""
        for kind, count in (
            ("prompt", ledger.prefill_tokens),
            ("completion", ledger.decode_tokens),
            ("lookahead", ledger.lookahead_tokens),
            ("verifier", ledger.verifier_tokens),
        ):
            self._tokens.labels(kind).inc(count)
        self._flops.labels("generator").inc(ledger.generator_flops)
        self._flops.labels("verifier").inc(ledger.verifier_flops)
        self._generations.inc(ledger.generations)

    def text(self) -> bytes:
        """Returns all of them, as Prometheus reads them."""
        return generate_latest(self._registry)
