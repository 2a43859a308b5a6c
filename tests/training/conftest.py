from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def as_optax_needs_it() -> Iterator[None]:
    """optax multiplies floats by integers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
