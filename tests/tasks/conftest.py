from collections.abc import Iterator

import pytest

from ttc_jax.tasks.grading import Grader


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    """One grader for all tests: starting its workers takes longer than most of them."""
    with Grader(workers=2, seconds=2.0) as grader:
        yield grader
