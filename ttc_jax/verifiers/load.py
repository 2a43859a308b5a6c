"""The verifier that a config names."""

from __future__ import annotations

from ttc_jax import assets
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.prm import load_prm
from ttc_jax.verifiers.verifier import Verifier

CONFIDENCE = "confidence:"


def load_verifier(path: str) -> Verifier | None:
    """A verifier by its path.

    Args:
      path: a PRM's folder, "embedded:prm", "confidence:log_prob" (or entropy, self_certainty) for
        the generator's own confidence, or "" for none.

    Raises:
      UserError: no such folder or sign.
    """
    if not path:
        return None
    if path.startswith(CONFIDENCE):
        return Confidence(path.removeprefix(CONFIDENCE))
    return load_prm(assets.locate(path))
