"""Settings of every test: eight simulated devices, strict JAX, deterministic hypothesis.

Environment variables:
  TTC_DATA: folder with real data; tests that use the `data_dir` fixture need it.
  TTC_SMOLLM2_GGUF: SmolLM2-135M-Instruct as a GGUF file; for the `smollm2` fixture.
  TTC_TOKENIZERS: folder with tokenizers of public models; for the `tokenizers` fixture.
  TTC_REQUIRE_TORCH: "1" forbids skipping the tests marked `torch_parity`.
  TTC_REQUIRE_CHROMIUM: "1" forbids skipping the tests of the report in a browser.
"""

import gc
import importlib.util
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.flags import xla_flags

# Before the first import of jax, and inherited by subprocesses.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
# Tiny models take longer to compile than to run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ["XLA_FLAGS"] = f"{xla_flags(devices=8)} {os.environ.get('XLA_FLAGS', '')}"

import hypothesis
import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, database=None, print_blob=True
)
hypothesis.settings.load_profile("deterministic")

# Fixtures of real data, and the environment variables that say where it is.
REAL_DATA = {"data_dir": "TTC_DATA", "smollm2": "TTC_SMOLLM2_GGUF", "tokenizers": "TTC_TOKENIZERS"}
REQUIRE_TORCH = os.environ.get("TTC_REQUIRE_TORCH") == "1"
# Files of few tests that take long.
LONG = [
    "test_bridge",
    "test_compile",
    "test_flipped",
    "test_gsm8k_study",
    "test_hostile_programs",
    "test_hosts",
    "test_kernel",
    "test_kill",
    "test_public_prms",
    "test_search",
    "test_smollm2",
    "test_sweep",
]
HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config: pytest.Config) -> None:
    if REQUIRE_TORCH and not HAS_TORCH:
        raise pytest.UsageError(
            "TTC_REQUIRE_TORCH=1, but torch is not installed: bash launch/test.sh --torch"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests come first: begun last, they would leave other processes without work."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """Collects garbage rarely: tracing makes many objects, and few of them are garbage."""
    gc.freeze()  # what was imported stays
    gc.set_threshold(20_000, 20, 20)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("torch_parity") and not HAS_TORCH:
        pytest.skip("torch is not installed: bash launch/test.sh --torch")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skipped parity test into a failure where parity is required."""
    del call
    report = yield
    without_data = any(
        fixture in getattr(item, "fixturenames", ()) and variable not in os.environ
        for fixture, variable in REAL_DATA.items()
    )
    parity = item.get_closest_marker("torch_parity") is not None
    if report.skipped and parity and REQUIRE_TORCH and not without_data:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but TTC_REQUIRE_TORCH=1: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder TTC_DATA names; skips the test when it is not set."""
    if "TTC_DATA" not in os.environ:
        pytest.skip("TTC_DATA does not name a folder with real data")
    folder = Path(os.environ["TTC_DATA"])
    assert folder.is_dir(), f"TTC_DATA={folder} is not a folder"
    return folder
