"""A real model, where the environment names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as GGUF, named by TTC_SMOLLM2_GGUF; skips the test without it."""
    if "TTC_SMOLLM2_GGUF" not in os.environ:
        pytest.skip("TTC_SMOLLM2_GGUF does not name SmolLM2-135M-Instruct.*.gguf")
    return Path(os.environ["TTC_SMOLLM2_GGUF"])
