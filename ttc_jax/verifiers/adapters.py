"""The adapter that a verifier needs between it and a generator, if any."""

from __future__ import annotations

from collections.abc import Sequence

from jax.sharding import Mesh

from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.generative import GenerativeVerifier
from ttc_jax.verifiers.texts import TextAdapter, TextVerifier
from ttc_jax.verifiers.verifier import Verifier

Adapter = PRMAdapter | TextAdapter


def adapter_of(
    verifier: Verifier | None,
    tokenizer: Tokenizer,
    delimiter: str,
    stop: Sequence[str] = (),
    *,
    generator: Transformer | None = None,
    batch: int = 1,
    mesh: Mesh | None = None,
) -> Adapter | None:
    """Returns what shows a verifier the generator's answers; None where it needs no such thing.

    Args:
      tokenizer: the generator's.
      delimiter: text that ends a step.
      stop: texts that end an answer, and are not part of it.
      generator: which a verifier may ask to judge what it wrote.
      batch, mesh: of a language model that judges, see `LanguageJudge`.

    Raises:
      UserError: as `PRMAdapter` and `LanguageJudge`.
    """
    if isinstance(verifier, GenerativeVerifier):
        verifier = verifier.beside(generator, tokenizer, batch=batch, mesh=mesh)
    if isinstance(verifier, TextVerifier):
        return TextAdapter(verifier, tokenizer, stop)
    if verifier is None or verifier.spec.format is None:
        return None
    return PRMAdapter(verifier, tokenizer, delimiter)
