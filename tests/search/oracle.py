"""The whole search said in plain Python: loops over rounds and rows, and no cache of anything.

Every next token comes from feeding the whole sequence anew, every score of a PRM from reading the
whole text anew. Costs are counted token by token as they arise.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.compute.flops_by_hand import generator_token, prm_token
from tests.models import reading
from tests.sampling.oracle import keep
from tests.search.choices import CLOSE_DRAW, CLOSE_SCORE, Seen, UnclearError, begun, choose
from tests.search.toy import Grader, grader_flops
from ttc_jax.compute.ledger import Ledger
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.search.plan import Plan
from ttc_jax.search.strategies import STOP
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.probe import HiddenStateProbe
from ttc_jax.verifiers.verifier import Verifier

ROWS = 8  # of all forward passes: one shape, so that they compile once
LONGEST, LONGEST_MARKED = 40, 64  # of a prompt and its answer, tokens


@dataclasses.dataclass
class Row:
    """One candidate.

    Attributes:
      key: of its draws.
      prompt: the question's, and the earlier answers that it revises.
      shown: what a verifier was shown: the prompt, and the text with markers.
      kept: how much of it the verifier holds.
    """

    key: jax.Array
    prompt: list[int]
    shown: list[int]
    kept: int
    text: list[int] = dataclasses.field(default_factory=list)
    steps: dict[int, float] = dataclasses.field(default_factory=dict)  # token -> score there
    score: float = 0.0
    log_prob: float = 0.0
    entropy: float = 0.0
    certainty: float = 0.0
    hidden: np.ndarray | None = None
    ended: bool = False
    done: bool = False

    def copy(self) -> "Row":
        return dataclasses.replace(
            self, shown=list(self.shown), text=list(self.text), steps=dict(self.steps)
        )


@dataclasses.dataclass
class Found:
    """What `SearchResult` says; every entry of `rounds` is a list over rows."""

    rows: list[Row]
    rounds: list[dict[str, list]]
    ledger: Ledger


class Forward:
    """Logits and hidden state behind whole sequences, each fed anew."""

    def __init__(self, model: Transformer):
        self.config = model.config
        graph, self._parameters = nnx.split(model)

        def at(parameters, tokens, where):
            model = nnx.merge(graph, parameters)
            hidden = jnp.take_along_axis(model(tokens), where[:, None, None], 1)[:, 0]
            return model.logits(hidden), hidden

        self._at = _optimised(at, self._parameters, *_padded([], LONGEST))

    def __call__(self, sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        tokens, lengths = _padded(sequences, LONGEST)
        found = jax.device_get(self._at(self._parameters, tokens, lengths - 1))
        given = len(sequences)
        return found[0][:given].astype(np.float64), found[1][:given].astype(np.float64)


def _padded(sequences: list[list[int]], longest: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, lengths = np.zeros((ROWS, longest), np.int32), np.ones(ROWS, np.int32)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)], lengths[row] = sequence, len(sequence)
    return tokens, lengths


def _optimised(function: Callable, *arguments: Any) -> Callable:
    """Compiled well, whatever the tests' settings: it is called thousands of times."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.config.update("jax_disable_most_optimizations", before)
    return compiled


class SearchOracle:
    """Answers one question after the other."""

    def __init__(
        self,
        generator: Forward,
        verifier: Verifier,
        plan: Plan,
        ends: Sequence[int],
        texts: Sequence[str],
        delimiter: str,
        *,
        seed: int,
    ):
        self.plan, self.verifier, self.ends = plan, verifier, ends
        self.texts, self.delimiter = texts, delimiter
        self.config, self.seed = generator.config, seed
        self._forward = generator
        self._judge = _judge(verifier)
        self._token_cost = functools.cache(functools.partial(generator_token, self.config))
        self._numbers = jax.jit(jax.vmap(jax.vmap(_number, (None, 0)), (0, None)))

    def search(self, prompt: Sequence[int], number: int) -> Found:
        """Searches, or raises `UnclearError`."""
        N, s = self.plan.candidates, self.plan.revisions
        self.prompt, self.costs = list(prompt), dict.fromkeys(Ledger().to_dict(), 0)
        self.question = jax.random.fold_in(jax.random.key(self.seed), np.uint32(number))
        keys = [jax.random.fold_in(self.question, n) for n in range(N)]
        rows = [Row(key, list(prompt), list(prompt), len(prompt) - 1) for key in keys]
        self._charge_prompt()
        self.rounds: list[dict[str, list]] = []
        self.answers: list[list[Row]] = []
        self.chosen: list[list[Row]] = []  # of each revision, whose answer each row goes on from
        for answer in range(s):
            rows = self._revise(rows) if answer else rows
            rows = self._answer(rows)
            self.answers.append(rows)
        ordered = [row for rows in self.answers for row in rows]
        if not self.plan.strategy.stops_at_steps:
            ordered = [rows[n] for n in range(N) for rows in self.answers]
        return Found(ordered, self.rounds, Ledger(**self.costs))

    def _revise(self, rows: list[Row]) -> list[Row]:
        """New rows, with the latest answers in their prompts."""
        plan, answer = self.plan, len(self.answers)
        best = rows
        if plan.strategy.stops_at_steps:
            ranked = sorted(rows, key=lambda row: -row.score)
            if any(0 < ranked[0].score - row.score < CLOSE_SCORE for row in ranked):
                raise UnclearError
            best = [ranked[0]] * len(rows)
        self.chosen.append(best)
        found = []
        for n, row in enumerate(rows):
            prompt = list(self.prompt)
            for earlier in self.chosen[-4:]:
                text = earlier[n].text
                prompt += [*(text[:-1] if earlier[n].ended else text), *plan.between]
            number = plan.max_new_tokens + plan.revisions * self._turns + answer
            key = jax.random.fold_in(row.key, number)
            found.append(Row(key, prompt, list(prompt), len(prompt) - 1))
            for position in range(len(self.prompt) - 1, len(prompt) - 1):
                self._charge_given(position)
        return found

    @property
    def _turns(self) -> int:
        return self.plan.rounds if self.plan.strategy.stops_at_steps else 1

    def _answer(self, rows: list[Row]) -> list[Row]:
        """The rows with their answers written."""
        N, T = self.plan.candidates, self.plan.max_new_tokens
        stops, first = self.plan.strategy.stops_at_steps, len(self.rounds)
        state = begun(self.plan.strategy, N)
        while True:
            r = len(self.rounds)
            entry: dict[str, list] = {
                "answers": [len(self.answers)] * N,
                "contexts": [len(row.prompt) - len(self.prompt) for row in rows],
                "starts": [len(row.text) for row in rows],
            }
            going = [row for row in rows if not row.done]
            entry |= self._round(rows, going)
            entry["tokens"] = [
                _widened(row.text[start:], self._step)
                for row, start in zip(rows, entry["starts"], strict=True)
            ]
            for row in going:
                row.done = row.ended or len(row.text) == T or r + 1 == first + self._turns
            entry["scores"] = [row.score for row in rows]
            parents = list(range(N))
            if stops and not all(row.done for row in rows):
                choice = jax.random.fold_in(jax.random.fold_in(self.question, 2**32 - 1), r)
                seen = _seen(rows, r - first)
                parents, state = choose(self.plan.strategy, seen, state, choice)
                for n, row in enumerate(rows):
                    row.done = row.done or parents[n] == STOP
                parents = [n if rows[n].done else parents[n] for n in range(N)]
                if self.plan.strategy.state_follows_rows:
                    state = [state[p] for p in parents]
            self.rounds.append(entry | {"parents": parents})
            if all(row.done for row in rows):
                return rows
            rows = [self._descend(rows[p], rows[n], p != n, r) for n, p in enumerate(parents)]

    def _descend(self, parent: Row, slot: Row, moved: bool, r: int) -> Row:
        row, T = parent.copy(), self.plan.max_new_tokens
        row.key = jax.random.fold_in(slot.key, T + r + 1) if moved else slot.key
        return row

    def _round(self, rows: list[Row], going: list[Row]) -> dict[str, list]:
        """A step of every row that goes on, its lookahead, and its score."""
        plan, before = self.plan, {id(row): len(row.text) for row in going}
        self._write(going, greedy=False, cost="decode_tokens")
        ahead = {id(row): row.copy() for row in going}
        for _ in range(plan.lookahead):
            able = [row for row in ahead.values() if not row.ended]
            able = [row for row in able if len(row.text) < plan.max_new_tokens]
            self._write(able, greedy=True, cost="lookahead_tokens")
        for row in going:
            first = len(row.prompt) - 1
            self._charge_anew(first + before[id(row)], first + len(ahead[id(row)].text))
        reads, peeks = self._score(going, before, ahead)
        return {
            "ends": [len(row.text) for row in rows],
            "lookahead_ends": [len(ahead.get(id(row), row).text) for row in rows],
            "verifier_tokens": [reads.get(id(row), 0) for row in rows],
            "lookahead_verifier_tokens": [peeks.get(id(row), 0) for row in rows],
        }

    @property
    def _step(self) -> int:
        """Tokens of a step at most."""
        if not self.plan.strategy.stops_at_steps:
            return self.plan.max_new_tokens
        return min(self.plan.max_step_tokens, self.plan.max_new_tokens)

    def _write(self, rows: list[Row], *, greedy: bool, cost: str) -> None:
        """A token to every row, until each is at the end of its step or answer."""
        plan, stops = self.plan, self.plan.strategy.stops_at_steps
        limit = {id(row): min(len(row.text) + self._step, plan.max_new_tokens) for row in rows}
        numbers = self._uniforms(rows)
        while rows:
            logits, hidden = self._forward([row.prompt + row.text for row in rows])
            on = []
            for row, scores, state in zip(rows, logits, hidden, strict=True):
                position = len(row.prompt) - 1 + len(row.text)  # of the token that was fed
                self.costs["generator_flops"] += self._token_cost(position, True)
                self.costs[cost] += 1
                sampling = SamplingParams(temperature=0) if greedy else plan.sampling
                token = pick(scores, numbers[id(row)][len(row.text)], sampling)
                log_probs = scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
                row.log_prob += log_probs[token]
                row.entropy -= (np.exp(log_probs) * log_probs).sum()
                row.certainty -= log_probs.mean() + np.log(len(log_probs))
                row.hidden = state
                row.text.append(token)
                row.ended = token in self.ends
                at_step_end = stops and self._read(row, reading.ended)[-1]
                if not row.ended and not at_step_end and len(row.text) < limit[id(row)]:
                    on.append(row)
            rows = on

    def _uniforms(self, rows: list[Row]) -> dict[int, np.ndarray]:
        if not rows:
            return {}
        N = self.plan.candidates
        keys = jnp.stack([rows[min(n, len(rows) - 1)].key for n in range(N)])
        numbers = np.asarray(self._numbers(keys, np.arange(self.plan.max_new_tokens)), np.float64)
        return {id(row): numbers[n] for n, row in enumerate(rows)}

    def _step_ends(self, row: Row, start: int) -> list[int]:
        """Tokens behind which a step ends; a step without text is none."""
        found, closed = [], self._read(row, reading.closed)
        for i, ends in enumerate(self._read(row, reading.ended)):
            behind_one = i > 0 and closed[i - 1]
            cut_off = i == len(row.text) - 1 and not closed[i] and not (row.ended and behind_one)
            if (ends or cut_off) and i >= start:
                found.append(i)
        return found

    def _read(self, row: Row, how: Callable[[Sequence[str], str], list[bool]]) -> list[bool]:
        return how([self.texts[token] for token in row.text], self.delimiter)

    def _score(
        self, rows: list[Row], before: dict[int, int], ahead: dict[int, Row]
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Shows the verifier what is new; tells how much it read of each row and its lookahead."""
        markers, offset = (
            self.verifier.spec.step_format.markers,
            self.verifier.spec.step_format.offset,
        )
        asked: list[tuple[Row, Row, dict[int, int]]] = []
        reads, peeks = {}, {}
        for row in rows:
            ends, places = self._step_ends(row, before[id(row)]), {}
            for i in range(before[id(row)], len(row.text)):
                row.shown.append(row.text[i])
                if i in ends:
                    row.shown.extend(markers)
                    places[i] = len(row.shown) - 1 + offset
            copy, new = ahead[id(row)], ahead[id(row)].text[len(row.text) :]
            copy.shown = list(row.shown)
            if new:
                copy.shown += [*new, *markers]
                places = {i: len(copy.shown) - 1 + offset for i in places}
            if not self.verifier.spec.every_step:
                places = dict(list(places.items())[-1:])
            asked.append((row, copy, places))
            if self.verifier.spec.vocab_size:
                reads[id(row)] = len(row.shown) - row.kept
                peeks[id(row)] = len(copy.shown) - len(row.shown)
                self._charge_verifier(row.kept, len(copy.shown))
                row.kept = len(row.shown)
        found = self._judge([copy for _, copy, _ in asked])
        for (row, _, places), scores in zip(asked, found, strict=True):
            for i, place in places.items():
                row.steps[i] = row.score = float(scores[place])
        return reads, peeks

    def _charge_prompt(self) -> None:
        paid = self.plan.candidates * (1 + self.plan.lookahead) * self.plan.revisions
        self.costs["generations"] += paid
        for position in range(len(self.prompt) - 1):
            self._charge_given(position)

    def _charge_given(self, position: int) -> None:
        """A token of a prompt or a context, read by both models."""
        self.costs["prefill_tokens"] += 1
        self.costs["generator_flops"] += self._token_cost(position, False)
        if self.verifier.spec.vocab_size:
            self.costs["verifier_tokens"] += 1
            self.costs["verifier_flops"] += verifier_token(self.verifier, position)

    def _charge_anew(self, first: int, end: int) -> None:
        """A round without caches: it reads all but the last token again, and goes on from there."""
        again = sum(self._token_cost(position, False) for position in range(first))
        drawn = sum(self._token_cost(position, True) for position in range(first, end))
        self.costs["uncached_generator_flops"] += again + drawn

    def _charge_verifier(self, kept: int, end: int) -> None:
        costs = [verifier_token(self.verifier, position) for position in range(end)]
        self.costs["verifier_tokens"] += end - kept
        self.costs["verifier_flops"] += sum(costs[kept:])
        self.costs["uncached_verifier_flops"] += sum(costs)


def _seen(rows: list[Row], r: int) -> Seen:
    return Seen(
        scores=[row.score for row in rows],
        active=[not row.done for row in rows],
        history=[[row.steps[i] for i in sorted(row.steps)] for row in rows],
        log_prob=[row.log_prob for row in rows],
        lengths=[len(row.text) for row in rows],
        entropy=[row.entropy for row in rows],
        hidden=[row.hidden for row in rows],
        round=r,
    )


def _widened(tokens: list[int], width: int) -> list[int]:
    return tokens + [0] * (width - len(tokens))


def _number(key: jax.Array, position: jax.Array) -> jax.Array:
    return jax.random.uniform(jax.random.fold_in(key, position))


def pick(logits: np.ndarray, uniform: float, sampling: SamplingParams) -> int:
    """A token by the inverse of the cumulative distribution, or the likeliest one."""
    if sampling.temperature == 0:
        second, first = np.sort(logits)[-2:]
        if first - second < CLOSE_SCORE:
            raise UnclearError
        return int(logits.argmax())
    scaled = logits / sampling.temperature
    kept, clear = keep(scaled, sampling)
    weights = np.exp(scaled - scaled.max()) * kept
    cumulative = np.cumsum(weights / weights.sum())
    if not clear or np.abs(cumulative[:-1] - uniform).min() < CLOSE_DRAW:
        raise UnclearError
    return int(np.searchsorted(cumulative, uniform, side="right"))


Judge = Callable[[list[Row]], Sequence[Any]]


def _judge(verifier: Verifier) -> Judge:
    """What gives a score for every token that each row shows, as if a step ended there."""
    if isinstance(verifier, ProcessRewardModel):
        return _whole_pass(verifier)
    if isinstance(verifier, Grader):
        table = np.asarray(verifier.table[...])
        return lambda rows: [table[np.array(row.shown)] for row in rows]
    if isinstance(verifier, HiddenStateProbe):
        weights = np.asarray(verifier.weights[...], np.float64)
        bias = float(verifier.bias[...])
        return lambda rows: [
            np.full(len(row.shown), 1 / (1 + np.exp(-(row.hidden @ weights + bias))))
            for row in rows
            if row.hidden is not None
        ]
    assert isinstance(verifier, Confidence)
    return lambda rows: [np.full(len(row.shown), sign(row, verifier.sign)) for row in rows]


def sign(row: Row, name: str) -> float:
    """How sure the generator was, on the mean over its tokens."""
    written = len(row.text)
    if name == "self_certainty":
        return 1 - np.exp(-row.certainty / written)
    return np.exp((row.log_prob if name == "log_prob" else -row.entropy) / written)


def _whole_pass(prm: ProcessRewardModel) -> Judge:
    graph, parameters = nnx.split(prm)

    @jax.jit
    def whole(parameters, tokens, prompts):
        return jax.nn.sigmoid(nnx.merge(graph, parameters)(tokens, prompts))

    def judge(rows: list[Row]) -> list[np.ndarray]:
        tokens, _ = _padded([row.shown for row in rows], LONGEST_MARKED)
        prompts = np.ones(ROWS, np.int32)
        prompts[: len(rows)] = [len(row.prompt) for row in rows]
        scores = np.asarray(whole(parameters, tokens, prompts))
        return list(scores[: len(rows)])

    return judge


def verifier_token(verifier: Verifier, position: int) -> int:
    """FLOPs of one token."""
    if isinstance(verifier, ProcessRewardModel):
        return _prm_token(verifier.config, position)
    return grader_flops(position) if isinstance(verifier, Grader) else 0


_prm_token = functools.cache(prm_token)
