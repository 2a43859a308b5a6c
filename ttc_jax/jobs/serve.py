"""Serves models under OpenAI's API: more compute where a request asks for it.

Clients of OpenAI's API are given http://HOST:PORT/v1, with --config.serve.host and --port=PORT (or
--config.serve.port). /health says whether the process works, /ready whether all is compiled that
--config.serve.warm names. Without API keys it answers this machine alone. SIGTERM makes it finish
what it has accepted. Prompts and answers are not logged. See docs/serve.md.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts

_log = logging.getLogger(__name__)


def check_installed() -> None:
    """Refuses to go on without the packages that only servers need."""
    for name in ("prometheus_client", "starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"the package {name} is missing: pip install 'ttc_jax[serve]'")


def main(config: ConfigDict, workdir: Path | None = None, *, port: str | None = None) -> None:
    """Serves until a signal comes."""
    if workdir is not None:
        raise UserError(f"--workdir={workdir}: ttc serve writes nothing; leave it out")
    if port is not None and not (port.isdecimal() and int(port) < 1 << 16):
        raise UserError(f"--port={port}: must be a number from 0, any free port, to 65535")
    if hosts.count() > 1:
        raise UserError(
            "--hosts: ttc serve runs on one host; start it on each, behind a proxy that balances"
        )
    check_installed()
    from ttc_jax.serve import logs, server
    from ttc_jax.serve.keys import read_keys
    from ttc_jax.serve.service import check, service_of

    check(config)
    serve = config.serve
    keys = read_keys(serve.key_file, serve.host)
    logs.set_up()
    with server.bound(serve.host, serve.port if port is None else int(port)) as socket:
        service = service_of(config)
        host, number = socket.getsockname()[:2]
        _log.info("listening on http://%s:%s/v1 for %s", host, number, service.name)
        asyncio.run(server.Server(service, keys, serve.warm).serve([socket]))
