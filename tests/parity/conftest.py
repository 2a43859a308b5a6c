"""Real models and tokenizers, where the environment names them."""

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


@pytest.fixture(scope="session")
def tokenizers() -> Path:
    """The folder that TTC_TOKENIZERS names, with llama3_1/, qwen3/ and mistral_v1/."""
    if "TTC_TOKENIZERS" not in os.environ:
        pytest.skip("TTC_TOKENIZERS does not name a folder with llama3_1/, qwen3/ and mistral_v1/")
    return Path(os.environ["TTC_TOKENIZERS"])
