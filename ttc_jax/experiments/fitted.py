"""The policy that a config follows, as its section `policy` says it."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.policy.policy import Policy
from ttc_jax.policy_file import PolicyFile, filled, read_policy
from ttc_jax.typed_json import check

_USABLE = ("question", "predicted")
_NO_PART = ("path", "loaded")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What to do with a question once its difficulty is known, and how that is told.

    Attributes:
      policy: the table of strategies.
      difficulty: "question" where the verifier's score of the question tells it, "predicted" where
        its scores of samples do.
      samples: how many; 0 for "question".
      strategies: name -> entry as in `sweep.strategies`, of those in the table.
    """

    policy: Policy
    difficulty: str
    samples: int
    strategies: ConfigDict

    @classmethod
    def of(cls, found: PolicyFile) -> Fitted:
        """Returns what a policy's file or section says.

        Raises:
          UserError: a table with holes, a strategy that it does not describe, or a policy that
            needs to know the right answers.
        """
        if found.difficulty not in _USABLE:
            raise UserError(
                f"policy.difficulty={found.difficulty}: {found.difficulty} difficulty cannot be "
                "told of a new question; write the policy anew with "
                "--config.policy.difficulty=question or predicted"
            )
        if found.difficulty == "predicted" and not found.samples:
            raise UserError("policy.samples=0: must be at least 1 where difficulty is predicted")
        policy = Policy.from_dict(vars(found))
        for number, row in enumerate(policy.choice, 1):
            for n, name in row.items():
                if name not in found.strategies:
                    raise UserError(
                        f"policy.choice.bin_{number}.n_{n}: {name!r} is no strategy that "
                        f"policy.strategies describes; it has "
                        f"{', '.join(sorted(found.strategies)) or 'none'}"
                    )
        used = {name for row in policy.choice for name in row.values()}
        entries = {name: found.strategies[name] for name in sorted(used)}
        strategies = {name: dataclasses.asdict(entry) for name, entry in entries.items()}
        return cls(policy, found.difficulty, found.samples, ConfigDict(strategies))


def load_policy(path: str, own: str = "") -> Fitted:
    """Returns the policy in a file, or in the workdir of `ttc policy`.

    Args:
      own: strategies "package.module:Class" that the file may name, see `check_named_by_data`.

    Raises:
      UserError: as `read_policy` and `Fitted.of`.
    """
    return Fitted.of(read_policy(path, own))


def followed(config: ConfigDict) -> tuple[ConfigDict, Fitted | None]:
    """Returns a config with the policy that it follows written out in full, and that policy.

    Strategies that the policy does not use are left out. Without a policy the config is as it was,
    and there is None.

    Raises:
      UserError: as `ttc_jax.policy_file.filled` and `Fitted.of`, a section of another shape, or a
        budget that a bin cannot follow.
    """
    config = filled(config)
    held = config.get("policy", ConfigDict()).to_dict()
    section = {name: value for name, value in held.items() if name not in _NO_PART}
    if not section:
        return config, None
    found = Fitted.of(check({"policy": section}, dict[str, PolicyFile], "config")["policy"])
    if config.budget < found.policy.least:
        raise UserError(
            f"--config.budget={config.budget}: budget {config.budget} is below the policy's least, "
            f"{found.policy.least}"
        )
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        copy.policy.strategies = found.strategies
    return copy, found
