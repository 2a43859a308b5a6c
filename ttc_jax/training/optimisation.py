"""How a model is fitted: the numbers of a training run, and the optax chain they make."""

from __future__ import annotations

import dataclasses

import optax

from ttc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """AdamW with warm-up and cosine decay, and what goes on around its updates.

    Attributes:
      steps: updates.
      learning_rate: at the end of the warm-up.
      warmup: updates until then, at most half of them all.
      final_rate: the last learning rate, as a share of the highest.
      beta1: decay of AdamW's mean gradient.
      beta2: decay of its mean squared gradient.
      weight_decay: of AdamW, times the learning rate.
      clip: norm to which a longer gradient is cut.
      gradient_limit: norm before clipping above which training has exploded and stops. Gradients of
        a mean loss in nats have norms of 0.1 to 100, those of new models included.
      accumulate: parts of a batch that are passed one after the other, for want of memory.
      dropout: as in `TrainMode`.
      remat: as in `TrainMode`.
      compute_dtype: "float32" or "bfloat16"; trained parameters and optimiser are float32.
      evaluate_every: updates between evaluations, each of which ends with a checkpoint.
      patience: evaluations without a new minimum after which training ends; 0: it never does.
      past_best: evaluations after the minimum of which the weights are kept (paper §2: a revision
        model's validation loss misleads, as it is off-policy; it is best slightly later).

    Raises:
      UserError: a number out of its range.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    final_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.01
    clip: float = 1.0
    gradient_limit: float = 1e4
    accumulate: int = 1
    dropout: float = 0.0
    remat: bool = False
    compute_dtype: str = "float32"
    evaluate_every: int = 500
    patience: int = 0
    past_best: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "accumulate": 1, "evaluate_every": 1, "patience": 0, "past_best": 0}
        for name, minimum in least.items():
            if (value := getattr(self, name)) < minimum:
                raise UserError(f"train.{name} is {value}; it must be at least {minimum}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"train.dropout is {self.dropout}; it must be from 0 to below 1")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise UserError(
                f"train.compute_dtype is {self.compute_dtype}; it must be float32 or bfloat16"
            )
        if 0 < self.patience < self.past_best:
            raise UserError(
                f"train.past_best is {self.past_best}, which train.patience={self.patience} never "
                "reaches; raise train.patience"
            )

    def transform(self) -> optax.GradientTransformation:
        """The optax chain."""
        rate = optax.warmup_cosine_decay_schedule(
            0.0,
            self.learning_rate,
            min(self.warmup, self.steps // 2),
            self.steps,
            self.learning_rate * self.final_rate,
        )
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(rate, self.beta1, self.beta2, weight_decay=self.weight_decay),
        )
