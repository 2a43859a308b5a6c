"""The arguments of a call: what each may be, and the names by which errors call them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ttc_jax.errors import UserError
from ttc_jax.experiments.fields import SEED
from ttc_jax.experiments.ranges import Real, Whole
from ttc_jax.models.limits import printable
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.tasks.prompts import PromptFormat


class _Kind(Protocol):
    def fault(self, value: Any) -> str:
        """Returns what is wrong with a value; "" where nothing is."""
        ...


@dataclasses.dataclass(frozen=True)
class _Of:
    """An instance of some types; `what` says which, to a reader."""

    what: str
    types: tuple[type, ...]

    def fault(self, value: Any) -> str:
        return "" if isinstance(value, self.types) else f"must be {self.what}"


@dataclasses.dataclass(frozen=True)
class _Floats:
    """A dtype of floating-point numbers."""

    def fault(self, value: Any) -> str:
        with contextlib.suppress(TypeError):
            if value is not None and jnp.issubdtype(jnp.dtype(value), jnp.floating):
                return ""
        return 'must be a dtype of floats, such as "float32" or "bfloat16"'


@dataclasses.dataclass(frozen=True)
class _Maybe:
    """A kind, or None."""

    kind: _Kind

    def fault(self, value: Any) -> str:
        return "" if value is None else self.kind.fault(value)


_COUNT, _TEXT = Whole(1), _Of("text", (str,))
_KINDS: Final[Mapping[str, _Kind]] = {
    "path": _TEXT,
    "tokenizer": _TEXT,
    "step_delimiter": _TEXT,
    "rows": _COUNT,
    "mesh": _Maybe(_Of("a mesh, such as make_mesh(data=2, model=1)", (Mesh,))),
    "dtype": _Floats(),
    "n": _COUNT,
    "max_tokens": _Maybe(_COUNT),
    "max_step_tokens": _COUNT,
    "sampling": _Maybe(_Of("SamplingParams, as in SamplingParams(top_p=0.9)", (SamplingParams,))),
    "log_probs": _Of("True or False", (bool,)),
    "thinking": _Maybe(_Of("a ThinkingFormat, as in ThinkingFormat()", (ThinkingFormat,))),
    "seed": SEED,
    "deadline": _Maybe(Real(above=True)),
    "budget": _COUNT,
    "strategy": _TEXT,
    "options": _Maybe(_Of('a dictionary, such as {"width": 4}', (Mapping,))),
    "policy": _TEXT,
    "judge": _TEXT,
    "rule": _TEXT,
    "task": _TEXT,
    "prompt": _Maybe(_Of("a PromptFormat, as in PromptFormat(chat=True)", (PromptFormat,))),
    "score_threshold": _Maybe(Real(0, 1)),
}
_ARGUMENTS: Final = {  # of what is a field of a config, and has another name there
    "generator.path": "path",
    "verifier.path": "verifier",
    "policy.path": "policy",
    "sampling.n": "n",
    "sampling.max_new_tokens": "max_tokens",
    "search.max_step_tokens": "max_step_tokens",
    "search.strategy": "strategy",
    "search.judge": "judge",
    "search.options": "options",
    "selection.rule": "rule",
}
_FIELD = re.compile(rf"(?:--config\.)?\b({'|'.join(map(re.escape, _ARGUMENTS))})\b")


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call, with NumPy's scalars and paths as Python's own.

    Raises:
      UserError: one that cannot be; names it, its value and what it must be.
    """
    found = {name: _plain(value) for name, value in given.items()}
    for name, value in found.items():
        if name in _KINDS and (fault := _KINDS[name].fault(value)):
            raise UserError(f"{name} is {printable(repr(value), 80)}; it {fault}")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@contextlib.contextmanager
def naming_arguments() -> Iterator[None]:
    """Calls fields of a config by the argument that stands for them, in what is refused."""
    try:
        yield
    except UserError as error:
        text = _FIELD.sub(lambda match: _ARGUMENTS[match[1]], str(error))
        if text == str(error):
            raise
        raise UserError(text) from error
