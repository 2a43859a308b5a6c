"""A server in a thread of the test's process, on a free port of this machine."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import openai
import pytest

from ttc_jax.config import load_config
from ttc_jax.serve.keys import Keys
from ttc_jax.serve.server import Server, bound
from ttc_jax.serve.service import service_of

EASY, HARD = "03 05 09=11:", "04 07 13 25=88:"
# Two programs, of one and of four candidates, in one size.
SMALL = (
    "--config.verifier.path=",
    "--config.selection.rule=majority",
    "--config.execution.rows=8",
    "--config.budget=4",
    "--config.serve.strategy=best_of_n",
    "--config.serve.budgets=4",
    "--config.serve.n=4",
    "--config.serve.prompt_tokens=32",
    "--config.serve.answer_tokens=40",
    "--config.sampling.max_new_tokens=40",
)


class Running:
    """A server that runs.

    Attributes:
      url: that clients are given.
    """

    def __init__(self, server: Server, url: str):
        self.server, self.url = server, url

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key="any", max_retries=0, **options)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url.removesuffix("/v1") + path)

    def post(self, path: str, **options) -> httpx.Response:
        return httpx.post(self.url + path, timeout=60, **options)


@contextlib.contextmanager
def serving(
    *flags: str, keys: Keys | None = None, warm: Sequence[str] = ("plain",)
) -> Iterator[Running]:
    """A server that is ready; it is asked to stop at the end, and has to."""
    last = {flag.partition("=")[0]: flag for flag in (*SMALL, *flags)}
    service = service_of(load_config("serve", [*last.values()]))
    with bound("127.0.0.1", 0) as socket:
        server = Server(service, keys or Keys(), warm)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])))
        thread.start()
        try:
            while not server.api.ready and thread.is_alive():
                time.sleep(0.02)
            yield Running(server, f"http://127.0.0.1:{socket.getsockname()[1]}/v1")
        finally:
            server.handle_exit(15, None)
            thread.join(60)
            assert not thread.is_alive()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the log says of requests."""
    return [vars(record)["about"] for record in caplog.records if "about" in vars(record)]
