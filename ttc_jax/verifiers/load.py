"""Loading a verifier that a config names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from ttc_jax import assets
from ttc_jax.errors import UserError
from ttc_jax.models import checkpoints, int8, parameters
from ttc_jax.models.shapes import read_shape
from ttc_jax.plugins import calling, imported, is_class
from ttc_jax.verifiers import prm, probe
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.flipped import Flipped
from ttc_jax.verifiers.formats import find_format, known
from ttc_jax.verifiers.generative import GenerativeVerifier, load_judge
from ttc_jax.verifiers.judge import JudgeModel
from ttc_jax.verifiers.judge_format import check_judge
from ttc_jax.verifiers.prm_config import PRMConfig
from ttc_jax.verifiers.public import load_public, outline_public
from ttc_jax.verifiers.texts import Reward, TextFunction
from ttc_jax.verifiers.verifier import Verifier, VerifierSpec

CONFIDENCE, FLIPPED = "confidence:", "flipped:"
_LOADERS = {prm.KIND: prm.load_prm, probe.KIND: probe.load_probe}


def load_verifier(
    path: str | Verifier | Reward,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> Verifier | None:
    """Loads a verifier by its path.

    Args:
      path: the folder of a PRM, an ORM or a probe, "embedded:prm" and the like; a public PRM by
        its hub name or folder, or "FORMAT:PATH" where that does not tell its format (see
        `find_format`); "confidence:log_prob" (or entropy, self_certainty) for the generator's own
        confidence; "flipped:0.2:PATH" for a PRM or ORM of which a fifth of the scores is flipped;
        "judge:PATH" for a language model that is asked whether a solution is correct, of the
        generator itself "judge:generator", or another format of judges (see `find_judge`);
        "package.module:Class" for a `Verifier` of your own; or "" for none. Not a path: a
        `Verifier`, or a function of texts, `reward(question, solutions) -> scores`, with a score of
        0 to 1 for each solution; it is called for a question at a time, with all candidates that a
        selection waits for (see `verifiers.texts`).
      dtype, weights, cache, mesh: as for `load_generator`.

    Raises:
      UserError: no such folder, sign, format or class, the folder of another model, or a mesh that
        does not divide the model.
    """
    if isinstance(path, Verifier):
        return path
    if not isinstance(path, str):
        return _function(path)
    if not path:
        return None
    storage: dict[str, Any] = {"dtype": dtype, "weights": weights, "cache": cache, "mesh": mesh}
    if path.startswith(FLIPPED):
        share, of = _flipped(path)
        return Flipped(cast(Verifier, load_verifier(of, **storage)), share)
    if path.startswith(CONFIDENCE):
        return Confidence(path.removeprefix(CONFIDENCE))
    judge = load_judge(path, selects=False, field="verifier.path", **storage)
    if judge is not None:
        return GenerativeVerifier(judge)
    if is_class(path) and find_format(path)[0] is None:
        return _own(path, storage)
    folder = assets.locate(path)
    if not checkpoints.is_model(Path(folder)):
        form, of = find_format(path)
        if form is not None:
            return load_public(of, form, **storage)
        raise UserError(
            f"verifier.path={path}: no folder that ttc train wrote, nor the name of a public PRM "
            f"({', '.join(known())}); for another checkpoint say its format, FORMAT:{path}, with "
            "one of these names or a JSON file, or search without a verifier: "
            "--config.verifier.path= --config.search.strategy=best_of_n"
        )
    return _LOADERS[_description(path, folder).kind](folder, **storage)


def outline_verifier(
    path: str,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weights: str = "",
    cache: str = "",
) -> Verifier | None:
    """Returns the verifier at `path`, shapes in place of its weights (`parameters.outline`).

    Of a PRM that was trained elsewhere the tokenizer is not read: see `outline_public`.

    Raises:
      UserError: as `load_verifier` and `read_shape`.
    """
    if not path or path.startswith(CONFIDENCE):
        return load_verifier(path)
    if path.startswith(FLIPPED):
        share, of = _flipped(path)
        inner = outline_verifier(of, dtype=dtype, weights=weights, cache=cache)
        return Flipped(cast(Verifier, inner), share)
    if (form := check_judge(path, "verifier.path", selects=False)) is not None:
        return GenerativeVerifier(JudgeModel(path, form))
    if is_class(path) and find_format(path)[0] is None:
        return _own(path, {"dtype": dtype, "weights": weights, "cache": cache})
    folder, dtype = Path(assets.locate(path)), jnp.dtype(dtype)
    if not checkpoints.is_model(folder):
        form, of = find_format(path)
        if form is not None:
            return outline_public(read_shape(of), form, dtype=dtype, weights=weights, cache=cache)
        config = PRMConfig(read_shape(path))
    else:
        description = _description(path, folder)
        if description.kind == probe.KIND:
            width = probe.read_width(folder)
            return parameters.outline(lambda: probe.HiddenStateProbe(width, dtype=dtype))
        config = checkpoints.read_config(folder, description.kind, PRMConfig.from_json)

    def build() -> prm.ProcessRewardModel:
        model = prm.ProcessRewardModel(
            config, rngs=nnx.Rngs(0), dtype=dtype, int8_cache=int8.wanted(cache)
        )
        return int8.quantised(model) if int8.wanted(weights) else model

    return parameters.outline(build)


def _function(reward: Reward) -> Verifier:
    """Returns a function of texts as a verifier."""
    if isinstance(reward, type) and issubclass(reward, Verifier):
        raise UserError(f"verifier is the class {reward.__name__}; give {reward.__name__}() itself")
    if not callable(reward):
        raise UserError(f"verifier is {reward!r:.80}; it must be a path or a function of texts")
    return TextFunction(reward)


def _own(path: str, storage: Mapping[str, Any]) -> Verifier:
    """Returns a verifier of the user's own, which is given the options that its class names."""
    kind = imported(path, "verifier.path")
    if not issubclass(kind, Verifier):
        raise UserError(f"verifier.path={path}: is no subclass of ttc_jax.verifiers.Verifier")
    with calling(f"verifier.path={path}"):
        known = inspect.signature(kind.__init__).parameters  # nnx hides it in the class
        found = kind(**{name: value for name, value in storage.items() if name in known})
        spec = found.spec
    if not isinstance(spec, VerifierSpec):
        raise UserError(f"verifier.path={path}: its spec is no VerifierSpec")
    return found


def _description(path: str, folder: str | Path) -> checkpoints.Description:
    """Returns what the folder of a verifier holds."""
    description = checkpoints.describe(folder)
    if description.kind not in _LOADERS:
        raise UserError(
            f"verifier.path={path}: holds a {description.kind}; a verifier is a "
            f"{' or a '.join(_LOADERS)}"
        )
    return description


def _flipped(path: str) -> tuple[float, str]:
    """Returns the share and the path in "flipped:SHARE:PATH"."""
    share, _, of = path.removeprefix(FLIPPED).partition(":")
    try:
        if of:
            return float(share), of
    except ValueError:
        pass
    raise UserError(f"verifier.path={path}: must be {FLIPPED}SHARE:PATH, as {FLIPPED}0.2:DIR")
