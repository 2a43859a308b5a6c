"""`LLM.generate` beside transformers on the same weights: tokens, and how likely each is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from tests.models.small import CONFIGS
from tests.models.test_tokenizers import trained
from tests.parity import reference
from ttc_jax import LLM, SamplingParams

pytestmark = pytest.mark.torch_parity
NEW = 48


def test_greedy_tokens_and_their_log_probabilities(tmp_path: Path) -> None:
    tokenizer = trained(pre_tokenizers.Digits(individual_digits=True), words=True)
    fields = {**CONFIGS["qwen3"], "vocab_size": len(tokenizer)}
    model = reference.random_reference(fields)
    tokenizer.save_pretrained(reference.save(model, tmp_path))
    llm = LLM(str(tmp_path))
    prompts = ["Ann has 12 apples", "<|im_start|>user\n1+1?", "the world"]
    outputs = llm.generate(
        prompts, n=2, max_tokens=NEW, sampling=SamplingParams(temperature=0), log_probs=True
    )
    torch = reference.torch_module()
    compared = 0
    for output in outputs:
        asked = np.array([output.prompt_token_ids], np.int32)
        [expected] = reference.reference_greedy(model, asked, NEW).tolist()
        for completion in output.completions:
            tokens = list(completion.token_ids)
            assert tokens == expected[: len(tokens)]
            assert len(tokens) == NEW or tokens[-1] in llm.tokenizer.eos_ids
            whole = np.array([[*output.prompt_token_ids, *tokens]], np.int32)
            logits = torch.from_numpy(reference.reference_logits(model, whole)[0])
            likely = torch.log_softmax(logits, -1)[len(output.prompt_token_ids) - 1 : -1]
            wanted = likely.gather(-1, torch.tensor(tokens)[:, None])[:, 0].numpy()
            np.testing.assert_allclose(completion.log_probs or (), wanted, atol=1e-4)
            assert completion.log_prob == pytest.approx(float(wanted.sum()), abs=1e-3)
            compared += len(tokens)
    assert compared > 100
