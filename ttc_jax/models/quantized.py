"""Quantized checkpoints of Hugging Face: what they are told by, and the one line that refuses them.

Their numbers are no weights by themselves: read as such they would give a model of noise.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ttc_jax.errors import UserError
from ttc_jax.models import limits

# What safetensors calls the numbers that weights may be stored as.
FLOATS = ("F32", "F16", "BF16", "F64")
# Ends of names of tensors that stand beside or for a quantized weight -> the method's name. In this
# order: GPTQ and AWQ share the first ones.
COMPANIONS = (
    (r".*\.g_idx", "GPTQ"),
    (r".*\.(qweight|qzeros|scales)", "GPTQ or AWQ"),
    (r".*\.(absmax|nested_absmax|quant_map|nested_quant_map|quant_state\..+|SCB)", "bitsandbytes"),
    (r".*\.(weight_scale_inv|activation_scale)", "FP8"),
    (r".*\.weight_(packed|shape|global_scale|zero_point|g_idx)", "compressed-tensors"),
    (r".*\.((weight|input|output|k|v|q)_scale|input_global_scale)", "FP8 or compressed-tensors"),
    (r".*\.(W_q|W_nbits)", "HQQ"),
)
OUT = "give the original checkpoint (float32, float16 or bfloat16), or a GGUF file of the model"


def refuse_config(fields: Mapping[str, Any], where: str) -> None:
    """Refuses a `config.json` that says how the weights are quantized.

    Raises:
      UserError: names the method.
    """
    for name in ("quantization_config", "compression_config"):
        if found := fields.get(name):
            method = found.get("quant_method") if isinstance(found, dict) else None
            _refuse(where, limits.show(method).strip("'") if method else "", name)


def refuse_tensors(dtypes: Mapping[str, str], where: str) -> None:
    """Refuses a checkpoint that holds tensors of quantized weights, whatever its config says.

    Args:
      dtypes: of every tensor that is to be read or is unknown, by name, as safetensors calls them.

    Raises:
      UserError: names one such tensor and the method, as well as they can be told.
    """
    by_name = (
        (method, name)
        for pattern, method in COMPANIONS
        for name in dtypes
        if re.fullmatch(pattern, name)
    )
    by_dtype = (
        ("FP8" if dtype.startswith("F8") else "", name)
        for name, dtype in dtypes.items()
        if dtype not in FLOATS
    )
    for method, name in itertools.chain(by_name, by_dtype):
        _refuse(where, method, f"{name} is {dtypes[name]}")


def _refuse(where: str, method: str, sign: str) -> NoReturn:
    kind = f"{method}: {sign}" if method else sign
    raise UserError(f"{where}: quantized weights ({kind}) are not supported; {OUT}")
