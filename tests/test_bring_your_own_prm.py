"""docs/bring-your-own-prm.md, followed to the letter with a small PRM."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, pre_tokenizers

from ttc_jax import cli
from ttc_jax.models.hub import transformers
from ttc_jax.results.store import ResultsStore
from ttc_jax.verifiers.formats import known

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "bring-your-own-prm.md").read_text(encoding="utf-8")
SHAPE = {"vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024}
# Fewer and shorter than on the page.
SMALL = ["limit=2", "sampling.n=2", "search.options.width=2", "search.rounds=3"]
SMALL += ["sampling.max_new_tokens=24", "execution.rows=4"]


def block(kind: str, number: int = 0) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[number]


def command(number: int) -> list[str]:
    """Arguments of a `ttc` command of the page, fewer and shorter."""
    program, *arguments = shlex.split(block("bash", number).replace("\\\n", ""))
    assert program == "ttc"
    return [*arguments, *(f"--config.{field}" for field in SMALL)]


def save_prm(folder: Path) -> None:
    """A model of bytes with a layer `score`."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    D, F, V = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    shapes = {"self_attn.q_proj": (D, D), "self_attn.k_proj": (D // 2, D)}
    shapes |= {"self_attn.v_proj": (D // 2, D), "self_attn.o_proj": (D, D)}
    shapes |= {"mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}
    shapes |= {"input_layernorm": (D,), "post_attention_layernorm": (D,)}
    tensors = {f"model.layers.0.{name}.weight": shape for name, shape in shapes.items()}
    tensors |= {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    tensors |= {"score.weight": (2, D), "score.bias": (2,)}
    drawn = {k: rng.normal(size=shape).astype(np.float32) for k, shape in tensors.items()}
    save_file(drawn, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **SHAPE}))
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = transformers().PreTrainedTokenizerFast(tokenizer_object=backend)
    made.save_pretrained(folder)


def test_the_page_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_prm(tmp_path / "my-prm")
    (tmp_path / "my_prm.json").write_text(block("json"), encoding="utf-8")
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    arguments = [x.replace("/models/my-prm", str(tmp_path / "my-prm")) for x in command(0)]
    assert cli.main(arguments) == 0
    summary = json.loads((tmp_path / "runs" / "mine" / "summary.json").read_text())
    assert summary["ledger"]["verifier_tokens"] > 100


def test_a_verifier_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert cli.main(command(1)) == 0
    records = ResultsStore(tmp_path / "runs" / "short").read()
    for one in [candidate for record in records for candidate in record.candidates]:
        assert all(0 < score < 1 for score in one.step_scores)
        assert list(one.step_scores) == sorted(one.step_scores, reverse=True)
    assert any(len(x.step_scores) > 1 for record in records for x in record.candidates)


def test_every_known_format_is_on_the_page():
    for name, form in known().items():
        assert f"`{name}`" in PAGE
        assert any(f"`{model}`" in PAGE for model in form.models)
