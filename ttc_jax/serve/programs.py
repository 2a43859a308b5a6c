"""The programs of a server: a search of each strategy, budget and length of answers."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.experiments.setup import fitting
from ttc_jax.experiments.spending import PARALLEL, is_pool, shape
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.vocabulary import mask_of
from ttc_jax.sampling.sampler import bucket
from ttc_jax.search.plan import Plan
from ttc_jax.search.request import PromptBuckets
from ttc_jax.search.search import Search
from ttc_jax.search.slots import Slots
from ttc_jax.search.strategies import make_strategy
from ttc_jax.serve.service import ALLOCATION, POLICY, SAMPLES, Service
from ttc_jax.verifiers.adapters import Adapter, adapter_of
from ttc_jax.verifiers.verifier import Verifier

PLAIN = ""  # candidates that nobody scores or chooses from
SCORED = "scored"  # the same, scored


class Spending(NamedTuple):
    """How much is spent on a question, and how.

    Attributes:
      strategy: its name; `PLAIN`: nothing is chosen, the client gets all that is drawn.
      generations: that a question is given.
      choices: completions that the client gets.
    """

    strategy: str
    generations: int
    choices: int


class Kind(NamedTuple):
    """What a program is compiled for.

    Attributes:
      strategy: its name; `PLAIN` for completions as they are drawn.
      generations: of a question.
      tokens: of an answer at most.
    """

    strategy: str
    generations: int
    tokens: int


class Programs:
    """The searches of a server, each made once.

    There are as many as strategies, budgets and lengths that the server lets clients choose from,
    so that no client can make it compile without end. Sampling parameters, seeds, limits of tokens
    and texts that stop an answer are data.
    """

    def __init__(self, service: Service):
        self._service = service
        self._ending = functools.lru_cache(maxsize=64)(self._make_ending)
        self._made: dict[Kind, Search] = {}
        self._compiled: dict[tuple[int, PromptBuckets], Future[None]] = {}
        self._lock = threading.Lock()
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="compiler")

    def close(self) -> None:
        """Ends the thread that compiles."""
        self._compiler.shutdown(wait=True, cancel_futures=True)

    def kind(self, strategy: str, generations: int, tokens: int) -> Kind:
        """Returns the program for an answer of so many tokens, the next longer one."""
        longest, entry = self._service.bounds.answer_tokens, self._service.strategies.get(strategy)
        if entry is not None and is_pool(entry):  # whatever its name, the program is one
            strategy = PLAIN if self._service.models.verifier is None else SCORED
        return Kind(strategy, generations, next(x for x in longest if x >= tokens))

    def first(self, spending: Spending, tokens: int, stops_early: bool) -> Kind:
        """Returns the program that a question is searched with first.

        Args:
          stops_early: whether candidates are drawn a few at a time.
        """
        service = self._service
        if spending.strategy == POLICY:
            assert service.fitted is not None
            return self.kind(SAMPLES, service.fitted.samples, tokens)
        if spending.strategy == ALLOCATION:
            assert service.allocation is not None
            return self.kind(ALLOCATION, service.allocation.grid[0], tokens)
        generations = spending.generations
        if stops_early:
            generations = min(service.budgets[spending.strategy][0], generations)
        return self.kind(spending.strategy, generations, tokens)

    def followed(self, name: str, budget: int, tokens: int) -> tuple[Kind | None, bool]:
        """Returns the program for what the policy says, once a question's samples are there.

        Args:
          name: of the policy's strategy.
          budget: that it chose it for.

        Returns:
          None, where the samples are all that the strategy draws; and whether they are part of it.
        """
        service, strategy = self._service, f"{POLICY}/{name}"
        assert service.fitted is not None
        reuses = is_pool(service.strategies[strategy])
        left = budget - service.fitted.samples if reuses else budget
        return (self.kind(strategy, left, tokens) if left > 0 else None), reuses

    def search(self, kind: Kind, stop: Sequence[str] = ()) -> Search:
        """Returns the search of a kind, for answers that end with some texts.

        Raises:
          UserError: a strategy that cannot spend so many generations, or as `Search`.
        """
        return self._ending(kind, tuple(stop)) if stop else self._base(kind)

    def compiled(self, search: Search, buckets: PromptBuckets) -> Future[None]:
        """Returns what is done once a search's programs are compiled for a size of prompts."""
        key = id(search.engine.parameters), buckets
        with self._lock:
            if key not in self._compiled:
                run = self._compiler.submit
                self._compiled[key] = run(lambda: Slots(search.engine, buckets).compile())
            return self._compiled[key]

    def warm(self, name: str) -> list[Search]:
        """Returns the searches that a name stands for: "plain", or a strategy and its budget.

        Of the policy these are the samples, and what each of its strategies goes on with; of the
        allocation what is drawn between two looks.

        Raises:
          UserError: there is none of this name.
        """
        service, kinds = self._service, list[Kind]()
        strategy, _, number = name.rpartition("-")
        known = number.isdecimal() and int(number) in service.budgets.get(strategy, ())
        for tokens in service.bounds.answer_tokens:
            if name == "plain":
                kinds.append(self.kind(PLAIN, 1, tokens))
            elif known:
                spending = Spending(strategy, int(number), 1)
                kinds.append(self.first(spending, tokens, stops_early=False))
                if strategy == POLICY and service.fitted is not None:
                    names = sorted(service.fitted.strategies)
                    found = [self.followed(name, int(number), tokens)[0] for name in names]
                    kinds += [kind for kind in found if kind is not None]
                if strategy == ALLOCATION and service.allocation is not None:
                    steps = np.diff(service.allocation.grid).tolist()
                    kinds += [self.kind(ALLOCATION, step, tokens) for step in steps]
        if not kinds:
            raise UserError(
                f"--config.serve.warm: {name!r:.40} is neither plain nor a strategy with one of "
                "its budgets, as in beam-16"
            )
        return [self.search(kind) for kind in dict.fromkeys(kinds)]

    def sizes(self) -> list[int]:
        """Returns the lengths of prompts to which all are padded, as far as they are served."""
        longest = self._service.bounds.prompt_tokens
        return sorted({bucket(length) for length in range(1, longest + 1)})

    def _base(self, kind: Kind) -> Search:
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._make(kind)
            return self._made[kind]

    def _make(self, kind: Kind) -> Search:
        service = self._service
        generator, tokenizer, verifier, _ = service.models
        lookahead = 0
        if kind.strategy == PLAIN:
            strategy, candidates, verifier = make_strategy("best_of_n"), kind.generations, None
        else:
            entry = PARALLEL if kind.strategy == SCORED else service.strategies[kind.strategy]
            strategy, lookahead = make_strategy(entry.strategy, **entry.options), entry.lookahead
            found = shape(strategy, kind.generations, lookahead, 0)
            if found is None:
                raise UserError(f"budget: {kind.strategy} cannot spend {kind.generations} exactly")
            candidates, _ = found
        marks = service.thinking
        if marks is not None:  # budgets are data
            marks = marks.without_budgets().tokens(tokenizer)
        plan = Plan(
            strategy,
            candidates,
            kind.tokens,
            service.max_step_tokens,
            service.rounds,
            lookahead,
            thinking=marks,
            own_limits=True,
        )
        batch = fitting(service.rows, candidates, service.execution.shards)
        return Search(
            generator,
            verifier,
            plan,
            end_tokens=service.prompt.ends(tokenizer),
            delimiter=Delimiter.of(tokenizer, service.step_delimiter),
            execution=dataclasses.replace(service.execution, batch=batch),
            seed=service.seed,
            adapter=self._adapter(verifier, candidates),
        )

    def _adapter(
        self, verifier: Verifier | None, candidates: int, stop: Sequence[str] = ()
    ) -> Adapter | None:
        service = self._service
        return adapter_of(
            verifier,
            service.models.tokenizer,
            service.step_delimiter,
            stop,
            generator=service.models.generator,
            batch=candidates,
            mesh=service.execution.mesh,
        )

    def _make_ending(self, kind: Kind, stop: tuple[str, ...]) -> Search:
        service, search = self._service, self._base(kind)
        tokenizer = service.models.tokenizer
        ends = set(service.prompt.ends(tokenizer))
        for text in stop:  # not `containing`, which keeps what it finds for every client's text
            ends |= set(np.flatnonzero(mask_of(tokenizer.texts(), text)).tolist())
        adapter = self._adapter(search.verifier, search.plan.candidates, stop)
        return search.ending_with(sorted(ends), adapter)
