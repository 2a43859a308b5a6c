"""Configs: a Python file, a variant, and overrides by dotted field.

A config file defines `get_config() -> ConfigDict` or, with variants, `get_config(variant="")` and
a literal dictionary `VARIANTS`, name -> (job, one-line description). Its docstring holds the
command that runs it. The field `job` says which job a config is for. A field's default has the type
that the field takes: no None, and for several values a tuple, not a list.
"""

import ast
import contextlib
import difflib
import importlib.util
import inspect
import json
import logging
import os
import re
import shlex
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import DEFINE_config_dict

from ttc_jax.config_files import find
from ttc_jax.errors import UserError
from ttc_jax.files import cache_folder
from ttc_jax.plugins import calling

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config file and sets fields of it.

    Args:
        spec: a shipped config by name, or the path of a file, then perhaps a colon and a variant:
            "gsm8k:smollm2", "configs/own.py".
        overrides: flags such as "--config.sampling.temperature=0.8"; the last one wins.

    Returns:
        The config, locked.

    Raises:
        UserError: no such file or variant, an unknown field, a value of the wrong type.
    """
    config, others = parse_config(spec, overrides)
    if others:
        raise UserError(
            f"unexpected argument {others[0]!r}: a field is set by --config.field=value"
        )
    return config


def parse_config(spec: str, argv: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """As `load_config`, for a command line that also holds other arguments than flags.

    Returns:
        The config, and those arguments.
    """
    config = _get_config(*find(spec))
    if "path" in config.get("policy", {}):
        config = _with_policy(config, argv)
    return _override(config, argv)


def fields(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The leaves of a config (or of nested dictionaries) by dotted name."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            leaves |= fields(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as nested dictionaries, lists, strings, numbers, booleans and None."""
    return json.loads(json.dumps(config.to_dict()))


def as_flag(name: str, value: Any) -> str:
    """The flag that sets a field, ready to be pasted into a shell."""
    text = str(value)
    if isinstance(value, tuple | list):
        text = ",".join(map(str, value))
        if _several(text, tuple(value)) != tuple(value):  # parts that hold commas or are no text
            text = repr(tuple(value))
    return f"--config.{name}={shlex.quote(text) if text else ''}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known dotted name that a mistaken one most likely stands for; "" when none is near."""

    def ratio(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one, other).ratio()

    def likeness(dotted: str) -> float:
        return ratio(name, dotted) + ratio(name.rpartition(".")[2], dotted.rpartition(".")[2])

    best = max(known, key=likeness, default="")
    return best if likeness(best) > 1.2 else ""


def is_missing_field(error: AttributeError | KeyError) -> bool:
    """Whether it was a config that was asked for a field that it does not have."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).name == "config_dict.py"


def belongs(name: str, to: Collection[str]) -> bool:
    """Whether a dotted field is one of these dotted fields, or in one of these sections."""
    return any(f"{name}.".startswith(f"{field}.") for field in to)


def enable_compilation_cache() -> None:
    """Keeps compiled XLA programs on disk, so that a second run starts at once.

    The folder is $JAX_COMPILATION_CACHE_DIR, else ttc_jax/xla under $XDG_CACHE_HOME or ~/.cache.
    Call it before the first compilation.
    """
    import jax

    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logging.getLogger(__name__).warning("no compilation cache: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _get_config(path: Path, variant: str) -> ConfigDict:
    module = _load_module(path)
    known = getattr(module, "VARIANTS", {})
    if not inspect.isfunction(module.get_config):
        raise UserError(f"--config={path}: get_config must be a function")
    if variant and not inspect.signature(module.get_config).parameters:
        raise UserError(f"--config={path}:{variant}: this config has no variants")
    if variant and known and variant not in known:
        raise UserError(f"--config={path}:{variant}: must be one of {', '.join(known)}")
    with calling(f"--config={path}: get_config"):
        config = module.get_config(variant) if variant else module.get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: get_config() must return an ml_collections.ConfigDict")
    return config


def _with_policy(config: ConfigDict, argv: Sequence[str]) -> ConfigDict:
    """Returns a config whose section `policy` is filled from its file, which a flag may name.

    Where the file is still to be written, only flags that set what it would hold miss it here.
    """
    from ttc_jax import policy_file

    known = fields(config)
    named = [match[1] if (match := _OVERRIDE.match(flag)) else "" for flag in argv]
    first = [flag for flag, name in zip(argv, named, strict=True) if not name or name in known]
    config, _ = _override(config, first)
    sets = any(name.startswith("policy.") and name not in known for name in named)
    return policy_file.filled(config) if sets or policy_file.exists(config) else config


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    with calling(f"--config={path}"):
        spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config={path}: the file defines no get_config()")
    return module


def _override(config: ConfigDict, overrides: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """The config with fields set, and the arguments that are no flags."""
    defaults = fields(config)
    named = [match[1] for flag in overrides if (match := _OVERRIDE.match(flag))]
    for name in named:
        if name not in defaults:
            raise UserError(_unknown(config, name, defaults))
        if isinstance(defaults[name], list | None):
            raise UserError(f"--config.{name} cannot be set by a flag: edit the config file")
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    argv = ["ttc", *_as_literals(overrides, defaults)]
    try:
        DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        others = values(argv)[1:]
    except flags.IllegalFlagValueError as error:
        name, _, value = str(error).removeprefix("flag --config.").partition("=")
        raise UserError(_wrong_type(name, value.partition(": ")[0], defaults[name])) from error
    except (flags.Error, ValueError) as error:
        raise UserError(str(error)) from error
    changed = fields(config)
    for name in named:
        if not _same_elements(changed[name], defaults[name]):
            raise UserError(_wrong_type(name, ",".join(map(str, changed[name])), defaults[name]))
    return config, others


def _as_literals(overrides: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    """The flags, with several values, "a,b", written as Python tuples for ml_collections."""
    found, rest = [], iter(overrides)
    for flag in rest:
        match = _OVERRIDE.match(flag)
        if match and isinstance(default := defaults.get(match[1]), tuple):
            name, given, text = flag.partition("=")
            text = text if given else next(rest, None)
            if text is not None:
                flag = f"{name}={_several(text, default)!r}"
        found.append(flag)
    return found


def _several(text: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values in "a,b", or in a tuple as Python writes it; none in "".

    Numbers are read as such, except where the default holds texts.
    """
    if text.startswith("("):
        try:
            found = ast.literal_eval(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            found = text
        return found if isinstance(found, tuple) else (found,)
    texts = bool(default) and all(isinstance(element, str) for element in default)
    parts = text.removesuffix(",").split(",") if text else []
    return tuple(part if texts else _number(part) for part in parts)


def _number(text: str) -> int | float | str:
    """The number that a text is; else the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _unknown(config: ConfigDict, name: str, known: Iterable[str]) -> str:
    section: Any = config
    path = ""
    for part in name.split("."):
        if part not in section or not isinstance(section[part], ConfigDict):
            break
        section, path = section[part], f"{path}{part}."
    inside = ", ".join(fields(section, path))
    if path == f"{name}.":
        return f"--config.{name} is a section: set one of {inside}"
    if near := nearest(name, known):
        return f"--config.{name}: unknown field; did you mean --config.{near}?"
    return f"--config.{name}: unknown field; there are {inside}"


def _same_elements(value: Any, default: Any) -> bool:
    """Whether a tuple's elements have types of the default's (an int may stand for a float)."""
    if not isinstance(default, tuple) or not default:
        return True
    kinds = {type(element) for element in default}
    kinds |= {int} if float in kinds else set()
    return all(type(element) in kinds for element in value)


def _wrong_type(name: str, value: str, default: Any) -> str:
    kind = type(default).__name__
    if isinstance(default, tuple) and default:
        kind = f"{type(default[0]).__name__} values"
    return f"--config.{name}={value}: expected {kind}, as in {as_flag(name, default)}"
