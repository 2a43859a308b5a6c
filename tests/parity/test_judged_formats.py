"""Judging with the four formats of public PRMs: the model cards' tokens, in batches and alone.

Models are random, one layer wide 16, with the real tokenizers and vocabularies.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.parity.test_public_prms import CASES, card_tokens, sentence_piece
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.hub import transformers
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.formats import known
from ttc_jax.verifiers.given import PRMWriter
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig
from ttc_jax.verifiers.scorer import Scorer

QUESTIONS = ("What is 3 + 4, twice?", "Solve $x^2 - 4 = 0$.", "1 + 1?")
STEPS = (
    ["Step 1: We add $3+4$ to get 7.", "Twice:\n\\[ 2 \\cdot 7 = 14 \\]", "It is $\\boxed{14}$"],
    ["So $x = \\pm 2$."],
    ["naïve → 3", "The answer is: 2"],
)
WIDTH = 160


@pytest.mark.parametrize("name", CASES)
def test_in_batches_and_one_by_one(name: str, tokenizers: Path, tmp_path: Path):
    case = CASES[name]
    source = tokenizers / case.tokenizer
    if (source / "tokenizer.model").is_file():
        sentence_piece(source / "tokenizer.model").save_pretrained(tmp_path)
    else:
        for file in source.iterdir():
            text = file.read_text(encoding="utf-8").replace("<|quad_end|>", "<extra_0>")
            (tmp_path / file.name).write_text(text, encoding="utf-8")
    V = case.fields["vocab_size"]
    shape = ModelConfig(
        vocab_size=V, width=16, depth=1, heads=2, kv_heads=1, head_size=8, ffn_width=16, context=512
    )
    prm = nnx.jit(lambda: ProcessRewardModel(PRMConfig(shape), rngs=nnx.Rngs(1)))()
    prm.score[...] = 4 * jax.random.normal(jax.random.key(2), prm.score[...].shape)
    prm.format, prm.tokenizer = known()[name], load_tokenizer(tmp_path, V)
    writer = PRMWriter(PRMAdapter(prm, prm.tokenizer, "\n\n", bridged=True), prm.tokenizer)
    shown = [writer.write(*pair) for pair in zip(QUESTIONS, STEPS, strict=True)]

    theirs = transformers().AutoTokenizer.from_pretrained(tmp_path)
    rows, places = np.zeros((len(shown), WIDTH), np.int32), []
    for row, one, question, steps in zip(rows, shown, QUESTIONS, STEPS, strict=True):
        tokens, read = card_tokens(name, theirs, question, steps)
        row[: len(tokens)] = tokens
        places.append(read)
        written = [*one.prompt, *(token for step in one.steps for token in step)]
        assert written[: max(read) + 1] == tokens[: max(read) + 1]

    scorer = Scorer(prm, batch=len(shown), step_format=writer.step_format)
    found = dict(scorer.run(shown))
    alone = [dict(scorer.run([one]))[0] for one in shown]
    assert [found[index] for index in range(len(shown))] == alone
    graph, weights = nnx.split(prm)
    tokens, lengths = jnp.asarray(rows), jnp.ones(len(rows), int)
    plain = jax.jit(lambda weights: nnx.merge(graph, weights)(tokens, lengths))
    for scores, row, read in zip(alone, jax.nn.sigmoid(plain(weights)), places, strict=True):
        np.testing.assert_allclose(scores, row[np.array(read)], atol=1e-5)
    assert np.std(np.concatenate(alone)) > 0.01
