"""The shape of a process reward model, as plain data, and what it costs."""

from __future__ import annotations

import dataclasses
from typing import Any

from ttc_jax.compute.flops import generator_flops, layers_flops
from ttc_jax.models import limits
from ttc_jax.models.config import ModelConfig
from ttc_jax.verifiers.steps import StepFormat

FEATURES = 3  # likelihood features of a token, see `ProcessRewardModel._likelihood_features`
_TOKEN, _OFFSET = limits.Whole(0, 2**24), limits.Whole(-(2**24), 0)
_LIMITS = {"hidden": limits.Whole(0, 2**20)}
_LIMITS |= dict.fromkeys(("every_step", "reads_tokens", "bias"), limits.SWITCH)


@dataclasses.dataclass(frozen=True)
class PRMConfig:
    """The shape of a PRM: its trunk, and the layers on it, if any, whose `width` is free."""

    trunk: ModelConfig
    layers: ModelConfig | None = None
    step_format: StepFormat = dataclasses.field(default_factory=StepFormat)
    every_step: bool = True  # False: an ORM, which was taught to score whole answers alone
    # Whether the layers read the tokens themselves too: the trunk's last hidden states foresee the
    # next token, and have little room for what stands there.
    reads_tokens: bool = False
    # A head on the trunk may have a ReLU layer of its own, of this width; 0: none.
    hidden: int = 0
    bias: bool = False  # of the head's layers

    def to_json(self) -> dict[str, Any]:
        """Returns plain data, which `from_json` reads."""
        return {
            "trunk": self.trunk.to_json(),
            "layers": self.layers.to_json() if self.layers else None,
            "step_format": {
                "markers": list(self.step_format.markers),
                "offset": self.step_format.offset,
            },
            "every_step": self.every_step,
            "reads_tokens": self.reads_tokens,
            "hidden": self.hidden,
            "bias": self.bias,
        }

    def flops(self, first: int, tokens: int) -> int:
        """Returns the FLOPs of reading `tokens` tokens from position `first` on, with KV caches."""
        if self.layers is None:
            head = 2 * self.trunk.width * self.hidden * tokens
            return generator_flops(self.trunk, first, tokens, logits=0) + head
        enter = 2 * (self.trunk.width + FEATURES) * self.layers.width
        trunk = generator_flops(self.trunk, first, tokens, logits=tokens)
        return trunk + layers_flops(self.layers, first, tokens) + enter * tokens

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PRMConfig:
        """Returns the config that `to_json` wrote.

        Raises:
          FieldError: a field is missing, of another type or beyond its limits.
        """
        limits.check_names(data, cls)
        step_format = data.get("step_format", {})
        limits.check_names(step_format, StepFormat, "step_format")
        for name, limit in _LIMITS.items():
            if name in data:
                limits.check(name, data[name], limit)
        for marker in step_format.get("markers", ()):
            limits.check("step_format.markers", marker, _TOKEN)
        limits.check("step_format.offset", step_format.get("offset", 0), _OFFSET)
        return cls(
            trunk=ModelConfig.from_json(data["trunk"]),
            layers=ModelConfig.from_json(data["layers"]) if data.get("layers") else None,
            step_format=StepFormat(
                markers=tuple(step_format.get("markers", ())), offset=step_format.get("offset", 0)
            ),
            every_step=data.get("every_step", True),
            reads_tokens=data.get("reads_tokens", False),
            hidden=data.get("hidden", 0),
            bias=data.get("bias", False),
        )
