from collections.abc import Iterator

import pytest

from tests.serve.running import Running, serving


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    """One server of two programs, for all tests that ask for nothing special."""
    with serving("--config.serve.requests=64") as found:
        yield found
