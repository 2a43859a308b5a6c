"""docs/bring-your-own-prm.md, followed to the letter with a small PRM."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, pre_tokenizers

from ttc_jax import cli
from ttc_jax.models.hub import transformers
from ttc_jax.verifiers.formats import known

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "bring-your-own-prm.md").read_text(encoding="utf-8")
SHAPE = {"vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024}
# Fewer and shorter than on the page.
SMALL = ["limit=2", "sampling.n=2", "search.options.width=2", "search.rounds=3"]
SMALL += ["sampling.max_new_tokens=24", "execution.rows=4"]


def block(kind: str) -> str:
    [found] = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return found


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
    command = block("bash").replace("/models/my-prm", str(tmp_path / "my-prm"))
    program, *arguments = shlex.split(command.replace("\\\n", ""))
    assert program == "ttc"
    assert cli.main([*arguments, *(f"--config.{field}" for field in SMALL)]) == 0
    summary = json.loads((tmp_path / "runs" / "mine" / "summary.json").read_text())
    assert summary["ledger"]["verifier_tokens"] > 100


def test_every_known_format_is_on_the_page():
    for name, form in known().items():
        assert f"`{name}`" in PAGE
        assert any(f"`{model}`" in PAGE for model in form.models)
