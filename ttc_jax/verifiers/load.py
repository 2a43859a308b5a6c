"""The verifier that a config names."""

from __future__ import annotations

from ttc_jax import assets
from ttc_jax.errors import UserError
from ttc_jax.models import checkpoints
from ttc_jax.verifiers import prm, probe
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.verifier import Verifier

CONFIDENCE = "confidence:"
_LOADERS = {prm.KIND: prm.load_prm, probe.KIND: probe.load_probe}


def load_verifier(path: str) -> Verifier | None:
    """A verifier by its path.

    Args:
      path: the folder of a PRM, an ORM or a probe, "embedded:prm" and the like,
        "confidence:log_prob" (or entropy, self_certainty) for the generator's own confidence, or ""
        for none.

    Raises:
      UserError: no such folder or sign, or the folder of another model.
    """
    if not path:
        return None
    if path.startswith(CONFIDENCE):
        return Confidence(path.removeprefix(CONFIDENCE))
    folder = assets.locate(path)
    kind = checkpoints.describe(folder).kind
    if kind not in _LOADERS:
        raise UserError(
            f"verifier.path={path}: holds a {kind}; a verifier is a {' or a '.join(_LOADERS)}"
        )
    return _LOADERS[kind](folder)
