"""Teaching a hidden-state probe: logistic regression on a PRM's examples, solved to its optimum.

The generator stays as it is, so that its hidden states are read once: each prompt for all answers
behind it, and what prompts begin with, such as worked examples, for all of them. What is left is
convex, but hidden states are far from round: gradient descent would still be on its way where
Newton's kind of methods have long arrived.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from tqdm import tqdm

from ttc_jax import files, hashing
from ttc_jax.hosts import hosts
from ttc_jax.models.cache import KVCache, PromptCache
from ttc_jax.models.train_mode import TrainMode
from ttc_jax.models.transformer import Transformer
from ttc_jax.training.batches import NONE, Batches
from ttc_jax.verifiers.probe import HiddenStateProbe

# Of half the squared weights on hidden states of unit variance, beside the mean loss of a step.
PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
PAD = 128  # prompts and answers are padded to multiples of so many tokens

Steps = tuple[NDArray[np.float64], NDArray[np.float64]]  # [n, D] hidden states, [n] values


class Probed(nnx.Module):
    """A generator and a new probe on its hidden states."""

    def __init__(self, generator: Transformer):
        self.generator = generator
        self.probe = HiddenStateProbe(generator.config.width)

    def hidden(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """What each token was drawn from: the hidden state one token earlier.

        The probe is shown the same in a search.
        """
        return jnp.pad(self.generator(tokens)[:, :-1], ((0, 0), (1, 0), (0, 0)))

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        prompt_lengths: Int[Array, " B"],
        mode: TrainMode | None = None,
    ) -> Float[Array, "B T"]:
        """Scores of whole sequences, as logits."""
        del prompt_lengths, mode  # nothing is dropped in what is not taught
        return self.probe(self.hidden(tokens))


def solve(
    model: Probed,
    train: Batches,
    validation: Batches,
    folder: Path | None = None,
    *,
    made_with: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Gives the probe the weights of the lowest binary cross-entropy, in nats a step.

    The penalty on large weights is the one of `PENALTIES` that does best on `validation`. Hidden
    states at the ends of all steps are held in the host's memory.

    Args:
      folder: keeps the hidden states in `hidden/` as they are read, so that a call that was killed
        goes on where it was.
      made_with: digests of the generator and the rest of what decides the hidden states, which are
        kept for these alone.

    Returns:
      Tokens read, the penalty, and the validation loss.
    """
    made_by = hashing.of_texts(*(f"{name}={x}" for name, x in sorted((made_with or {}).items())))
    folder = folder and folder / "hidden" / made_by
    states, values = _steps(model, train, folder, "training questions")
    held_out = _steps(model, validation, folder, "held-out questions")
    mean, scale = states.mean(0), np.maximum(states.std(0), 1e-6)
    states = (states - mean) / scale
    found = []
    for penalty in PENALTIES:
        start = np.zeros(states.shape[1] + 1)
        solution = minimize(_loss, start, (states, values, penalty), jac=True, method="L-BFGS-B").x
        weights = solution[1:] / scale
        bias = solution[0] - mean @ weights
        loss, _ = _loss(np.append(bias, weights), *held_out)
        found.append((loss, penalty, weights, bias))
    loss, penalty, weights, bias = min(found, key=lambda x: x[0])
    dtype = model.probe.weights[...].dtype
    model.probe.weights[...] = jnp.asarray(weights, dtype)
    model.probe.bias[...] = jnp.asarray(bias, dtype)
    tokens = int(sum(batch["lengths"].sum() for batch in train.all()))
    return {"tokens": tokens, "penalty": penalty, "validation_loss": loss}


def _loss(
    weights: NDArray[np.float64],
    states: NDArray[np.float64],
    values: NDArray[np.float64],
    penalty: float = 0.0,
) -> tuple[float, NDArray[np.float64]]:
    """The loss of a probe, and its gradient; the bias stands first."""
    bias, slope = weights[0], weights[1:]
    logits = states @ slope + bias
    loss = (np.logaddexp(0, logits) - values * logits).mean() + penalty * slope @ slope / 2
    error = (expit(logits) - values) / len(values)
    return float(loss), np.append(error.sum(), error @ states + penalty * slope)


class Row(NamedTuple):
    """An answer behind its prompt; see `Example`."""

    tokens: NDArray[np.int32]  # [P + T]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    prompt_length: int


class Group(NamedTuple):
    """Questions whose prompts and answers are padded alike, each with its answers."""

    questions: Sequence[Sequence[Row]]
    prompt_slots: int
    answer_slots: int


def _steps(model: Probed, batches: Batches, folder: Path | None, name: str) -> Steps:
    """Hidden states where values are asked for, and those values; `name` is for people."""
    graph, parameters = nnx.split(model)
    answered = _by_prompt(batches)
    shared = _shared(answered)

    @jax.jit
    def read_shared(parameters: Any, tokens: Array) -> PromptCache:
        return nnx.merge(graph, parameters).generator.prefill(tokens)[1]

    @jax.jit
    def read(
        parameters: Any, prefix: PromptCache | None, prompts: Array, lengths: Array, tokens: Array
    ) -> Array:
        """[B, N, 1 + T, D]: what the prompt's last token and each of the answer's came from."""
        generator = nnx.merge(graph, parameters).generator
        of_prompt, kept = generator.prefill(prompts[:, :-1], prefix)
        B, N, T = tokens.shape
        before = of_prompt[jnp.arange(B), lengths - 2]
        before = jnp.broadcast_to(before[:, None, None], (B, N, 1, before.shape[-1]))
        stored = len(shared) + lengths - 1
        hidden, _ = generator.extend(tokens, KVCache.fork(kept, stored, N, T))
        return jnp.concatenate([before, hidden], 2).astype(jnp.float32)

    prefix = read_shared(parameters, shared[None]) if len(shared) else None
    rows = max(map(len, answered))
    states, values = [], []
    tokens = batches.all()[0]["tokens"].size
    groups = list(_groups(answered, rows, tokens=tokens, shared=len(shared)))
    first = hosts.is_first()  # of many that all read the same
    for group in tqdm(groups, desc=f"hidden states, {name}", unit="batch", disable=not first):
        answers = [answer for of_question in group.questions for answer in of_question]
        values += [x.targets[x.weights > 0] for x in answers]
        asked = [x.weights[x.prompt_length - 1 :] > 0 for x in answers]
        path = folder and folder / f"{_digest(answers)}.npy"
        if path and path.exists():
            states.append(np.load(path))
            continue
        hidden = np.asarray(read(parameters, prefix, *_padded(group, rows, len(shared))))
        places = [(b, n) for b, of in enumerate(group.questions) for n in range(len(of))]
        found = [hidden[place][: len(at)][at] for place, at in zip(places, asked, strict=True)]
        states.append(np.concatenate(found))
        if path:
            _save(path, states[-1])
    return np.concatenate(states).astype(np.float64), np.concatenate(values).astype(np.float64)


def _by_prompt(batches: Batches) -> list[list[Row]]:
    """The answers that share a prompt, together."""
    found: dict[bytes, list[Row]] = {}
    for batch in batches.all():
        for i in np.flatnonzero(batch["examples"] != NONE):
            length, start = int(batch["lengths"][i]), int(batch["prompt_lengths"][i])
            tokens, targets, weights = (
                batch[name][i, :length] for name in ("tokens", "targets", "weights")
            )
            row = Row(tokens, targets, weights, start)
            found.setdefault(row.tokens[:start].tobytes(), []).append(row)
    return list(found.values())


def _shared(answered: Sequence[list[Row]]) -> NDArray[np.int32]:
    """The tokens that all prompts begin with; none, where they are too few to be worth it.

    Two of a prompt are left: its last one is fed with the answers, and there is one before it.
    """
    prompts = [of_question[0].tokens[: of_question[0].prompt_length] for of_question in answered]
    shortest = max(0, min(map(len, prompts)) - 2)
    alike = (np.array([prompt[:shortest] for prompt in prompts]) == prompts[0][:shortest]).all(0)
    count = shortest if alike.all() else int(alike.argmin())
    return prompts[0][: count if count >= PAD else 0]


def _groups(answered: Sequence[list[Row]], rows: int, tokens: int, shared: int) -> Iterator[Group]:
    """All questions, in groups of about so many tokens of answers, of which each has `rows`."""

    def slots(of_question: list[Row]) -> tuple[int, int]:
        prompt = of_question[0].prompt_length
        answer = max(len(row.tokens) for row in of_question) - prompt
        return -((shared - prompt) // PAD) * PAD, -(-answer // PAD) * PAD

    alike: dict[tuple[int, int], list[list[Row]]] = {}
    for of_question in answered:
        alike.setdefault(slots(of_question), []).append(of_question)
    for (prompt, answer), questions in sorted(alike.items(), key=lambda item: item[0]):
        size = max(1, tokens // (rows * answer))
        for start in range(0, len(questions), size):
            chosen = questions[start : start + size]
            # The last group is filled up, so that there is one shape.
            yield Group(chosen + [[]] * (min(size, len(questions)) - len(chosen)), prompt, answer)


def _padded(group: Group, rows: int, shared: int) -> tuple[NDArray[np.int32], ...]:
    """Prompts' own parts [B, P], their lengths [B], what answers' tokens came from [B, N, T]."""
    B = len(group.questions)
    prompts = np.zeros((B, group.prompt_slots), np.int32)
    lengths = np.full(B, 2, np.int32)
    tokens = np.zeros((B, rows, group.answer_slots), np.int32)
    for b, of_question in enumerate(group.questions):
        for n, row in enumerate(of_question):
            start = row.prompt_length
            lengths[b] = start - shared
            prompts[b, : start - shared] = row.tokens[shared:start]
            fed = row.tokens[start - 1 : -1]
            tokens[b, n, : len(fed)] = fed
    return prompts, lengths, tokens


def _digest(answers: Sequence[Row]) -> str:
    """Of what is read, and where it is asked for a value."""
    return hashing.name_of(row.tokens.tobytes() + row.weights.tobytes() for row in answers)


def _save(path: Path, array: NDArray[np.float32]) -> None:
    """Whole or not at all, whatever kills the process."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    files.write(path, buffer.getvalue())
