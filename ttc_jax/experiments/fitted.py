"""Fitted policies: written to a file, and followed as a config's section `policy` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from ttc_jax import files
from ttc_jax.config import as_flag
from ttc_jax.errors import UserError, naming
from ttc_jax.experiments.spending import judged
from ttc_jax.policy.policy import Policy
from ttc_jax.policy_file import OF_FILE, Entry, PolicyFile, filled
from ttc_jax.results.token_budgets import Spending
from ttc_jax.typed_json import check

_USABLE = ("question", "predicted")
_ABOUT = {
    "oracle": "the share of {samples} samples that are right",
    "predicted": "the verifier's mean score of {samples} samples",
    "question": "the verifier's score of the question alone",
}


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What to do with a question once its difficulty is known, and how that is told.

    Attributes:
      policy: the table of strategies.
      difficulty: "question" where the verifier's score of the question tells it, "predicted" where
        its scores of samples do.
      samples: how many; 0 for "question".
      strategies: name -> how it is run, of those in the table.
      generations: strategy -> budget -> generations, where budgets count tokens.
    """

    policy: Policy
    difficulty: str
    samples: int
    strategies: Mapping[str, Entry]
    generations: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)

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
        generations = found.generations if found.unit == "tokens" else {}
        return cls(policy, found.difficulty, found.samples, entries, generations)

    def strategy(self, easiness: float, budget: int) -> tuple[str, int]:
        """Returns the strategy for a question and its generations; see `Policy.strategy`."""
        name, within = self.policy.strategy(easiness, budget)
        return name, self.generations[name][f"n_{within}"] if self.generations else within

    def beside(self, generator: str, verifier: str) -> Fitted:
        """Returns the same policy where a strategy's own models, if they are these, go unsaid."""

        def plain(entry: Entry) -> Entry:
            return dataclasses.replace(
                entry,
                generator="" if entry.generator == generator else entry.generator,
                verifier="" if entry.verifier == verifier else entry.verifier,
            )

        entries = {name: plain(entry) for name, entry in self.strategies.items()}
        return dataclasses.replace(self, strategies=entries)

    def check(self, budget: int) -> None:
        """Refuses a budget that a bin cannot follow."""
        if budget < self.policy.least:
            raise UserError(f"budget {budget} is below the policy's least, {self.policy.least}")


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
    section = {name: value for name, value in held.items() if name not in OF_FILE}
    if not section:
        return config, None
    found = Fitted.of(check({"policy": section}, dict[str, PolicyFile], "config")["policy"])
    with naming(as_flag("budget", config.budget)):
        found.check(config.budget)
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        entries = found.strategies.items()
        copy.policy.strategies = {name: entry.to_dict() for name, entry in entries}
    return copy, found


def write_policy(
    path: Path,
    config: ConfigDict,
    policy: Policy,
    samples: int,
    spending: Spending | None = None,
) -> Path:
    """Writes the policy as a file that `read_policy` reads.

    Args:
      samples: that tell the difficulty of a question, 0 where its score does.
      spending: the tokens of generations, where budgets count these.

    Raises:
      UserError: the disk is full or not writable, or the sweep's config is damaged.
    """
    kind = "predicted" if config.policy.difficulty == "few" else config.policy.difficulty
    used = {name for row in policy.choice for name in row.values()}
    # Those that no bin uses are there to be switched to, as far as that takes no code of one's own.
    strategies = {
        name: entry
        for name, entry in _entries(Path(config.data.path)).items()
        if name in used or ":" not in entry.strategy
    }
    source = config.data.path.encode("utf-8", "replace").decode()  # a path may be no Unicode text
    PolicyFile(
        difficulty=kind,
        samples=samples,
        strategies=strategies,
        unit="generations" if spending is None else "tokens",
        generations={} if spending is None else _generations(policy, spending),
        about=f"The compute-optimal policy fitted to {source}. Bin 1 is the easiest. A "
        "question whose difficulty (higher is easier) is below edges[i] is in bin i + 2 or harder; "
        f"it is {_ABOUT[kind].format(samples=samples)}.",
        **policy.to_dict(),
    ).write(path)
    return path


def _generations(policy: Policy, spending: Spending) -> dict[str, dict[str, int]]:
    """Returns strategy -> budget -> generations, of those that the policy chooses."""
    found: dict[str, dict[str, int]] = {}
    for row in policy.choice:
        for budget, name in row.items():
            found.setdefault(name, {})[f"n_{budget}"] = spending.generations(name, budget)
    return found


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """What a policy needs of a sweep's section of its config."""

    strategies: dict[str, Entry] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Search:
    """The judge that a sweep's section `search` names."""

    judge: str = ""


@dataclasses.dataclass(frozen=True)
class _SweepConfig:
    """What a policy needs of a sweep's config.json."""

    sweep: _Sweep = dataclasses.field(default_factory=_Sweep)
    search: _Search = dataclasses.field(default_factory=_Search)


def _entries(data: Path) -> dict[str, Entry]:
    """Returns how a sweep ran each strategy; nothing for data that no `ttc sweep` wrote."""
    path = data / "config.json"
    if not path.is_file():
        return {}
    found = files.read_json(path, "run the sweep anew in another --workdir")
    config = check(found, _SweepConfig, str(path))
    return config.sweep.strategies | judged(config.search.judge)
