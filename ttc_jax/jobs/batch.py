"""Answers a file of requests, as OpenAI's batches have them: a JSON object a line.

SOURCE holds lines with custom_id, method, url (/v1/chat/completions or /v1/completions) and body;
TARGET gets a line for each, as soon as it is answered: with custom_id, and a response with its
status code and body. The same command again goes on where it was stopped, and answers nothing
twice. Requests are those of ttc serve, and so are configs; no server has to run.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.jobs.serve import check_installed

TAKES = ("serve",)
_log = logging.getLogger(__name__)


def main(
    config: ConfigDict,
    workdir: Path | None = None,
    source: str | None = None,
    target: str | None = None,
) -> None:
    """Answers all requests that are not answered yet."""
    if workdir is not None:
        raise UserError(f"--workdir={workdir}: ttc batch writes to TARGET; leave it out")
    if source is None or target is None:
        raise UserError("ttc batch SOURCE TARGET --config=serve: name both files")
    check_installed()
    from ttc_jax.serve import batch, logs
    from ttc_jax.serve.backend import Backend
    from ttc_jax.serve.service import check, service_of

    check(config)
    count = batch.check(Path(source))
    logs.quiet()

    async def run() -> None:
        known = len(batch.done(Path(target)))
        backend = Backend(service_of(config))
        async with backend.working():
            answered, wrong = await batch.run(backend, Path(source), Path(target))
        _log.info("%d of %d were there; %d answered, %d refused", known, count, answered, wrong)

    with batch.locked(Path(target)):
        asyncio.run(run())
