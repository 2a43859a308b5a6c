"""Scores of public PRMs against torch, computed as their model cards say, with real tokenizers.

The model cards tokenise the whole text; in XLA the generator's own tokens are appended. So what is
compared is, for all solutions, a torch model that reads the appended tokens; and for those (most)
where both are the same tokens, that is the model card itself. They differ by construction where a
step begins: a model card writes " Step" behind a question, a generator "Step" behind its own
prompt. Over the bridge, where texts are tokenised anew, the tokens are the model card's.

Models are random, two layers wide 64, with the real vocabularies.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.parity import reference
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.gguf_tokenizer import build
from ttc_jax.models.hub import transformers
from ttc_jax.models.tokenizers import HFTokenizer, Tokenizer, load_tokenizer
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.steps import step_ends

pytestmark = pytest.mark.torch_parity
TOLERANCE = 1e-3
B, N, T = 4, 26, 120  # questions, solutions of each, tokens of the longest
QUESTIONS = (
    "Natalia sold clips to 48 friends, and half as many in May. How many in all?",
    "Solve $x^2 - 4 = 0$ over the reals.",
    "小明有 3 个苹果，又买了 5 个。一共有几个？",
    "What is\n  1 + 1?\nAnswer with a number.",
)
STEPS = (
    "Step 1: We add $3+4$ to get 7.",
    "So \\(x^2 = \\frac{1}{2}\\), hence $x = \\pm\\frac{\\sqrt{2}}{2}$",
    "因此答案是 42。",
    "naïve café → 3 × 5 ≠ 16 🙂!",
    "\\[\n  \\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}\n\\]",
    "The answer is: $\\boxed{7}$",
    "a",
    "1234567890 + 987654321 = 2222222211;",
    "...",
    "(see above)",
    "Then 5 > 3 and 2 < 4, <b>so</b> x = {y: 3}",
    "+",
    "## Step 2: - 3 + 4 = 1?",
    "It's “quoted”: f(x)=e^{-x}:",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A PRM: its tokenizer, its architecture, and where a generator's steps end."""

    tokenizer: str
    fields: dict[str, Any]
    delimiter: str
    other: str  # tokenizer of a generator that needs the bridge


_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_LLAMA = {"model_type": "llama", "rope_theta": 500000.0, "vocab_size": 128256}
_MISTRAL = {"model_type": "mistral", "vocab_size": 32000}
CASES = {
    "math-shepherd": Case(
        "mistral_v1", {"model_type": "mistral", "vocab_size": 32000}, "\n", "qwen3"
    ),
    "rlhflow": Case("llama3_1", _LLAMA, "\n\n", "qwen3"),
    "skywork": Case("qwen3", {"model_type": "qwen2", "vocab_size": 151936}, "\n", "llama3_1"),
    "qwen2.5-math-prm": Case(
        "qwen3", {"model_type": "qwen2", "vocab_size": 152064}, "\n\n", "llama3_1"
    ),
}


def sentence_piece(model: Path) -> Any:
    """Mistral's tokenizer from the file that comes without a tokenizer.json."""
    transformers()
    from transformers.convert_slow_tokenizer import import_protobuf

    protobuf: Any = import_protobuf()
    found = protobuf.ModelProto()
    found.ParseFromString(model.read_bytes())
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.piece for piece in found.pieces],
        "tokenizer.ggml.scores": [piece.score for piece in found.pieces],
        "tokenizer.ggml.token_type": [piece.type for piece in found.pieces],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    return build(metadata, str(model))


@pytest.fixture(scope="module", params=CASES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="module")
def folder(name: str, case: Case, tokenizers: Path, tmp_path_factory) -> Path:
    """The PRM's tokenizer, and later its checkpoint."""
    path, source = tmp_path_factory.mktemp(case.tokenizer), tokenizers / case.tokenizer
    if (source / "tokenizer.model").is_file():
        sentence_piece(source / "tokenizer.model").save_pretrained(path)
        return path
    for file in source.iterdir():
        text = file.read_text(encoding="utf-8")
        if name == "qwen2.5-math-prm":  # whose id 151651 is another special token
            text = text.replace("<|quad_end|>", "<extra_0>")
        (path / file.name).write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """transformers' tokenizer of the PRM."""
    return transformers().AutoTokenizer.from_pretrained(folder)


def tokenizer_of(tokenizers: Path, which: str, vocab_size: int | None = None) -> Tokenizer:
    if which == "mistral_v1":
        return HFTokenizer(sentence_piece(tokenizers / which / "tokenizer.model"), (), vocab_size)
    return load_tokenizer(tokenizers / which, vocab_size)


@pytest.fixture(scope="module")
def torch_model(case: Case) -> Any:
    """Random, and with context and head that matter."""
    model = reference.random_reference(_SHAPE | case.fields)
    with reference.torch_module().no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0 if "layers" in key else 4.0)
    return model


@pytest.fixture(scope="module")
def head(name: str) -> Any:
    """The head's own layers, if it has any."""
    torch = reference.torch_module()
    torch.manual_seed(1)
    if name == "skywork":
        layers = torch.nn.Linear(64, 1)
    elif name == "qwen2.5-math-prm":
        layers = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
        )
    else:
        return None
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(4.0)
    return layers.requires_grad_(False)


@pytest.fixture(scope="module")
def prm(name: str, case: Case, folder: Path, torch_model: Any, head: Any) -> ProcessRewardModel:
    from safetensors.torch import save_file

    state = {key: value.contiguous() for key, value in torch_model.state_dict().items()}
    if name == "skywork":
        state = {f"pretrained_model.{key}": value for key, value in state.items()}
        state |= {f"v_head.summary.{key}": value for key, value in head.state_dict().items()}
    if name == "qwen2.5-math-prm":
        state = {key: value for key, value in state.items() if key != "lm_head.weight"}
        state |= {f"score.{key}": value for key, value in head.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_SHAPE | case.fields), encoding="utf-8")
    found = load_verifier(f"{name}:{folder}")
    assert isinstance(found, ProcessRewardModel)
    return found


class Solution:
    """An answer as a generator writes it, and its steps as a reader takes them."""

    def __init__(self, tokens: list[int], ended: bool, tokenizer: Tokenizer, delimiter: str):
        self.tokens, self.ended = tokens, ended
        self.steps: list[list[int]] = []  # tokens without delimiter
        self.texts: list[str] = []
        step: list[int] = []
        behind_one = False

        def close() -> None:
            self.steps.append(step.copy())
            self.texts.append(tokenizer.decode(step, inside=bool(self.texts)))
            step.clear()

        for token in tokens[: len(tokens) - ended]:
            text = tokenizer.decode([token], inside=True)
            if delimiter not in text:
                step.append(token)
                behind_one = False
                continue
            if rest := text.split(delimiter)[0]:
                step += tokenizer.encode(rest, inside=True)
            if rest or not behind_one:  # else there is no text between two delimiters
                close()
            behind_one = True
        if not behind_one:
            close()


def solutions_of(tokenizer: Tokenizer, delimiter: str) -> list[Solution]:
    """B·N of them, with every kind of awkward end."""
    rng = np.random.default_rng(7)
    found: list[Solution] = []
    while len(found) < B * N:
        texts = [STEPS[i] for i in rng.integers(0, len(STEPS), rng.integers(1, 7))]
        if delimiter == "\n":
            texts = [text.replace("\n", " ") for text in texts]
        breaks = [delimiter * int(count) for count in rng.choice([1, 1, 1, 2, 3], len(texts))]
        text = "".join(text + end for text, end in zip(texts, breaks, strict=True))
        kind = len(found) % 5
        if kind in (0, 1):  # no trailing delimiter
            text = text[: -len(breaks[-1])]
        tokens = tokenizer.encode(text)[: T - 1]
        if kind in (1, 2):
            tokens.append(tokenizer.eos_ids[0])
        if kind == 3:  # cut off anywhere
            tokens = tokens[: int(rng.integers(1, len(tokens) + 1))]
        found.append(Solution(tokens, kind in (1, 2), tokenizer, delimiter))
    return found


def card_tokens(
    name: str, theirs: Any, question: str, steps: Sequence[str]
) -> tuple[list[int], list[int]]:
    """What a model card feeds, and where it reads the scores."""
    if name == "math-shepherd":
        text = f"{question} " + "".join(f"{step} ки\n" for step in steps)
        tokens = theirs.encode(text)
        return tokens, [i for i, token in enumerate(tokens) if token == 12902]
    if name == "rlhflow":
        turns, read, tokens = [], [], []
        for k, step in enumerate(steps):
            turns.append({"role": "user", "content": f"{question} {step}" if k == 0 else step})
            turns.append({"role": "assistant", "content": "+"})
            tokens = theirs.apply_chat_template(turns, tokenize=True, return_dict=False)
            read.append(len(tokens) - 3)
        return tokens, read
    if name == "skywork":
        tokens, read = theirs.encode("<|endoftext|>" + question + "\n"), []
        for step in steps:
            tokens += [*theirs.encode(step), theirs.encode("\n")[-1]]
            read.append(len(tokens) - 1)
        return tokens, read
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    turns = [
        {"role": "system", "content": system},
        {"role": "user", "content": question},
        {"role": "assistant", "content": "".join(f"{step}<extra_0>" for step in steps)},
    ]
    text = "".join(f"<|im_start|>{t['role']}\n{t['content']}<|im_end|>\n" for t in turns)
    tokens = theirs.encode(text)
    return tokens, [i for i, token in enumerate(tokens) if token == 151651]


def appended_tokens(
    name: str, theirs: Any, question: str, steps: Sequence[Sequence[int]]
) -> tuple[list[int], list[int]]:
    """The same around the generator's own tokens."""
    ids = theirs.convert_tokens_to_ids
    turn = ["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "ĊĊ"]
    mark, behind = {
        "math-shepherd": ([12902], [13]),
        "rlhflow": (ids(turn), [10, *ids([*turn[:2], "user", *turn[3:]])]),
        "skywork": ([198], []),
        "qwen2.5-math-prm": ([151651], []),
    }[name]
    tokens, _ = card_tokens(name, theirs, question, ["!"])
    if name == "math-shepherd":
        tokens = theirs.encode(question)  # a first token begins with the blank
    elif name == "rlhflow":
        header = theirs.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=True, return_dict=False
        )
        tokens = [*header[:-1], *ids(["Ġ"])]  # without the end of the turn
    elif name == "skywork":
        tokens = theirs.encode("<|endoftext|>" + question + "\n")
    else:
        tokens = tokens[: tokens.index(151651) - 1]
    read = []
    for step in steps:
        tokens = [*tokens, *step, *mark]
        read.append(len(tokens) - 1)
        tokens += behind
    return tokens, read


def torch_scores(
    name: str, model: Any, head: Any, rows: Sequence[tuple[list[int], list[int]]]
) -> list[np.ndarray]:
    """Of each row, at the places that are read."""
    torch = reference.torch_module()
    padded = np.zeros((len(rows), max(len(tokens) for tokens, _ in rows)), np.int64)
    for row, (tokens, _) in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    with torch.no_grad():
        hidden = model.model(input_ids=torch.from_numpy(padded)).last_hidden_state
        found = []
        for states, (_, read) in zip(hidden, rows, strict=True):
            here = states[read]
            if name == "skywork":
                scores = torch.sigmoid(head(here))[:, 0]
            elif name == "qwen2.5-math-prm":
                scores = head(here).softmax(-1)[:, 1]
            else:
                candidates = [648, 387] if name == "math-shepherd" else [10, 12]
                scores = model.lm_head(here)[:, candidates].softmax(-1)[:, 0]
            found.append(scores.numpy())
    return found


def our_scores(
    prm: ProcessRewardModel,
    adapter: PRMAdapter,
    solutions: Sequence[Solution],
    delimiter: Delimiter,
    cuts: np.ndarray,
) -> list[np.ndarray]:
    """The same, read in pieces that end where `cuts` says, [K, B·N]."""
    prompts = [adapter.prompt(question) for question in QUESTIONS]
    width = max(map(len, prompts))
    padded = np.zeros((B, width), np.int32)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    lengths = np.array([len(solution.tokens) for solution in solutions])
    text = np.zeros((B * N, T + 1), np.int32)
    for n, solution in enumerate(solutions):
        text[n, : lengths[n] + 1] = [prompts[n // N][-1], *solution.tokens]
    ended = np.array([solution.ended for solution in solutions])
    ends = np.pad(step_ends(text[:, 1:], lengths, ended, delimiter), ((0, 0), (1, 0)))
    steps, shape = T, adapter.step_format
    graph, weights = nnx.split(prm)

    @jax.jit
    def start(weights: Any, prompts: jax.Array, lengths: jax.Array) -> Any:
        verifier = nnx.merge(graph, weights)
        return verifier.init(prompts, lengths, N, shape.longest(T, steps) + 1)

    @jax.jit
    def read(weights: Any, chunk: Any, real: jax.Array, state: Any) -> Any:
        tokens, ends, written = chunk
        shown = shape.mark(tokens, real, ends, steps, written)
        scores, state = nnx.merge(graph, weights).score_steps(shown.tokens, shown.real, state)
        where = jnp.clip(shown.read, 0, scores.shape[-1] - 1)
        return jnp.take_along_axis(scores, where, -1), state

    state = start(weights, jnp.asarray(padded), jnp.asarray([len(prompt) for prompt in prompts]))
    found = np.zeros((B * N, T + 1), np.float32)
    at, done = np.arange(T + 1), np.zeros(B * N, int)
    for end in (*cuts, lengths + 1):
        end = np.clip(end, done, lengths + 1)
        index = np.minimum(done[:, None] + at, T)
        chunk = (np.take_along_axis(text, index, 1), np.take_along_axis(ends, index, 1), index > 0)
        real = (end - done).reshape(B, N)
        scores, state = read(
            weights, [jnp.asarray(x.reshape(B, N, -1)) for x in chunk], jnp.asarray(real), state
        )
        for n, row in enumerate(np.asarray(scores).reshape(B * N, -1)):
            found[n, done[n] : end[n]] = row[: end[n] - done[n]]
        done = end
    return [row[where] for row, where in zip(found, ends, strict=True)]


def test_scores_are_the_model_cards(
    name: str,
    case: Case,
    tokenizers: Path,
    theirs: Any,
    prm,
    torch_model: Any,
    head: Any,
    record_property: Any,
):
    tokenizer = tokenizer_of(tokenizers, case.tokenizer, case.fields["vocab_size"])
    adapter = PRMAdapter(prm, tokenizer, case.delimiter)
    assert not adapter.bridged
    marks = len(adapter.step_format.markers)  # Mistral's has one for a blank and a word
    assert marks == prm.format.mark_tokens - (name == "math-shepherd")
    delimiter = Delimiter.of(tokenizer, case.delimiter)
    solutions = solutions_of(tokenizer, case.delimiter)
    assert len(solutions) >= 100

    appended, cards = [], []
    for n, solution in enumerate(solutions):
        question = QUESTIONS[n // N]
        appended.append(appended_tokens(name, theirs, question, solution.steps))
        cards.append(card_tokens(name, theirs, question, solution.texts))
    expected = torch_scores(name, torch_model, head, appended)
    assert np.concatenate(expected).std() > 0.05
    rng = np.random.default_rng(1)
    pieces = np.sort(rng.integers(0, T, (3, B * N)), 0)
    worst = {}
    for how, cuts in {"in one pass": pieces[:0], "in pieces": pieces}.items():
        found = our_scores(prm, adapter, solutions, delimiter, cuts)
        for scores, wanted in zip(found, expected, strict=True):
            assert scores.shape == wanted.shape
        worst[how] = float(np.abs(np.concatenate(found) - np.concatenate(expected)).max())
    same = [
        a[: max(read_a) + 1] == c[: max(read_c) + 1] and read_a == read_c
        for (a, read_a), (c, read_c) in zip(appended, cards, strict=True)
    ]
    counts = (len(solutions), sum(map(len, expected)), sum(same))
    record_property("worst difference", worst)
    record_property("solutions, steps, of the model card's own tokens", counts)
    assert max(worst.values()) < TOLERANCE
    if name != "rlhflow":  # whose model card writes " Step" where a generator wrote "Step"
        assert np.mean(same) > 0.5


def test_over_the_bridge_the_prm_reads_the_model_cards_tokens(
    name: str, case: Case, tokenizers: Path, theirs: Any, prm
):
    tokenizer = tokenizer_of(tokenizers, case.other)
    adapter = PRMAdapter(prm, tokenizer, case.delimiter)
    assert adapter.bridged
    delimiter = Delimiter.of(tokenizer, case.delimiter)
    same = []
    for n, solution in enumerate(solutions_of(tokenizer, case.delimiter)):
        tokens = np.array([solution.tokens], np.int32)
        ends = step_ends(tokens, np.array([tokens.shape[1]]), np.array([solution.ended]), delimiter)
        shown, read = adapter.show(solution.tokens, ends[0].tolist(), first=True)
        prompt = adapter.prompt(QUESTIONS[n // N])
        wanted, places = card_tokens(name, theirs, QUESTIONS[n // N], solution.texts)
        found = [len(prompt) + read[i] for i in np.flatnonzero(ends[0])]
        size = max(places) + 1
        same.append(([*prompt, *shown][:size], found) == (wanted[:size], places))
    assert np.mean(same) > 0.95  # the others are cut off behind a blank, which a template trims
