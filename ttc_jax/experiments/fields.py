"""The fields of configs: what each one sets, and the values it may take.

One table for the help of the command and for the check at its door. Every field of a shipped config
has a line; what one library alone can tell, such as whether a width divides N, is checked where it
is known.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from typing import Final

from ml_collections import ConfigDict

from ttc_jax.config import as_flag, fields
from ttc_jax.errors import UserError
from ttc_jax.experiments.ranges import Choice, Each, Real, Values, Whole
from ttc_jax.policy.flops_match import PER_TOKEN
from ttc_jax.results.selection import AGGREGATIONS, RULES
from ttc_jax.tasks.code.sandbox import KINDS


@dataclasses.dataclass(frozen=True)
class Field:
    """A line of the table: what a field sets, and what it may hold.

    Attributes:
      help: one line that says what it sets.
      values: what it may hold; None for text, paths and switches.
    """

    help: str
    values: Values | None = None


SEED: Final = Whole(0, 2**32 - 1)
_SHARE = Real(0, 1, above=True, below=True)
_COUNT = Whole(1)
_DTYPE = Field("dtype of computation, and of weights", Choice(("float32", "bfloat16")))
_WEIGHTS = Field('"int8" keeps matrices in int8; "" in dtype', Choice(("", "int8")))
_CACHE = Field('"int8" keeps keys and values in int8; "" in dtype', Choice(("", "int8")))
_TOKENIZER = Field('folder, .gguf file or hub name of another tokenizer; "" for its own')
_ENTRY: Final = {  # fields of a strategy that a sweep or a policy describes
    "strategy": Field("name or class of the strategy"),
    "options.*": Field("option of the strategy"),
    "lookahead": Field("greedy steps rolled out before scoring", Whole()),
    "ratio": Field("sequential to parallel answers; 0: no revisions", Real()),
    "generator": Field('its own generator; "" for generator.path'),
    "verifier": Field('its own verifier; "" for verifier.path'),
    "thinking": Field("its own thinking.maximum; -1 for that of the section", Whole(-1)),
    "judge": Field('its own judge, as in search.judge; "" for none'),
}

FIELDS: Final[Mapping[str, Field]] = {
    "job": Field("the job this config is for"),
    "seed": Field("of everything drawn at random", SEED),
    "task.name": Field('countdown, gsm8k, math, humaneval, ..., or "package.module:Class"'),
    "task.seed": Field("of the generated questions", SEED),
    "task.size": Field("questions to generate", Whole(1, 100_000_000)),
    "task.path": Field('file of test questions; "" downloads them'),
    "task.train_path": Field('file of training questions; "" downloads them'),
    "task.execute": Field(
        'how programs are run: "isolated", "limits", or "" for not at all', Choice(KINDS)
    ),
    "task.seconds": Field("of the processor's time for a program", Real(above=True)),
    "task.megabytes": Field("address space of a program", Whole(64)),
    "task.unboxed": Field("whether a solution without a box may give its answer in prose"),
    "split": Field("which questions: train, validation or test"),
    "limit": Field("how many of them, from the first on; 0 for all", Whole()),
    "questions": Field("file of questions: one a line, or JSON lines"),
    "json": Field("whether to print a JSON object a question"),
    "own": Field('own classes that data may name: "package.module:Class,..."'),
    "title": Field("headline of the report"),
    "stages": Field("stages in the order in which they run"),
    "generator.path": Field("folder, .gguf file, hub name or embedded:NAME"),
    "generator.tokenizer": _TOKENIZER,
    "generator.dtype": _DTYPE,
    "generator.weights": _WEIGHTS,
    "generator.cache": _CACHE,
    "verifier.path": Field('folder, hub name or embedded:NAME; "" for none'),
    "verifier.dtype": _DTYPE,
    "verifier.weights": _WEIGHTS,
    "verifier.cache": _CACHE,
    "prompt.template": Field("text of the prompt; {question} stands for the question"),
    "prompt.chat": Field("whether to use the tokenizer's chat template"),
    "prompt.chat_template_kwargs": Field('its arguments as JSON: {"enable_thinking": false}'),
    "prompt.system": Field("system message, where the prompt is a chat"),
    "prompt.shots": Field("worked (question, solution) pairs before the question"),
    "prompt.stop": Field('text that ends an answer, beside the end token; "" for none'),
    "prompt.revision": Field("text between an answer and its revision"),
    "thinking.open": Field('mark that begins a thought; "" where every answer begins inside one'),
    "thinking.close": Field('mark that ends a thought; "" for a model that does not think'),
    "thinking.closing": Field('text forced at the maximum, the mark in it; "" for the mark alone'),
    "thinking.continuation": Field("text forced where a thought would end before the minimum"),
    "thinking.minimum": Field("tokens of a thought at least", Whole()),
    "thinking.maximum": Field("tokens of a thought at most; -1 for no maximum", Whole(-1)),
    "thinking.steps": Field(
        "whether the verifier scores, and search selects, steps of the thought too"
    ),
    "step_delimiter": Field("text that ends a step"),
    "execution.rows": Field("candidates decoded together, over all questions of a batch", _COUNT),
    "execution.lanes": Field("rows decoded at a time, those in use first; 0 for all", Whole()),
    "execution.refill": Field("whether a finished question's place goes to the next at once"),
    "execution.segment": Field("tokens decoded at least between two refills", _COUNT),
    "execution.cache": Field(
        '"shared" stores what rows have from one parent once; "auto" where it is worth it',
        Choice(("", "shared", "auto")),
    ),
    "execution.mesh.data": Field("devices over which questions or batch rows are split", _COUNT),
    "execution.mesh.model": Field("devices over which each model is split", _COUNT),
    "sampling.n": Field("N, candidates a question", _COUNT),
    "sampling.max_new_tokens": Field("tokens of the longest answer", _COUNT),
    "sampling.temperature": Field("0 takes the most likely token", Real()),
    "sampling.top_k": Field("draws from the k most likely tokens; 0 from all", Whole()),
    "sampling.top_p": Field(
        "draws from the most likely tokens of this joint probability", Real(0, 1, above=True)
    ),
    "search.strategy": Field('best_of_n, beam, dvts, ..., or "package.module:Class"'),
    "search.options.*": Field("option of the strategy"),
    "search.judge": Field('who chooses from the candidates: "pick:PATH", ...; "": they vote'),
    "search.lookahead": Field("greedy steps rolled out before a step is scored", Whole()),
    "search.max_step_tokens": Field("a step of so many tokens ends there", _COUNT),
    "search.ratio": Field("sequential to parallel answers, where the generator revises", Real()),
    "search.revisions": Field("answers in sequence, each revising the one before", _COUNT),
    "search.rounds": Field("selection steps at most", _COUNT),
    "search.trees": Field("questions, from the first on, whose search trees are kept", Whole()),
    "selection.aggregation": Field("how step scores make one score", Choice(tuple(AGGREGATIONS))),
    "selection.rule": Field("how the final answer is selected", Choice(tuple(RULES))),
    "selection.subsets": Field("random subsets that estimate accuracy at smaller N", _COUNT),
    "sweep.budgets": Field("generations a question", Each(_COUNT)),
    "sweep.seeds": Field("a run for each", Each(SEED)),
    "sweep.difficulty.samples": Field("further samples that tell difficulty; 0: none", Whole()),
    "sweep.difficulty.seed": Field("of these, and none of sweep.seeds", SEED),
    **{f"sweep.strategies.*.{name}": field for name, field in _ENTRY.items()},
    "rollouts.ends": Field("rollouts from the end of each step", _COUNT),
    "rollouts.rows_per_question": Field("rollouts of a question decoded together", _COUNT),
    "kind": Field(
        "what is trained",
        Choice(("sft", "prm", "orm", "probe", "outcome_probe", "revision", "rest_em")),
    ),
    "start.path": Field('model that training starts from; "" for fresh weights'),
    "start.tokenizer": _TOKENIZER,
    "start.dtype": _DTYPE,
    "start.weights": _WEIGHTS,
    "start.cache": _CACHE,
    "policy.path": Field("policy to follow: the workdir of ttc policy, or its policy.json"),
    "allocation.path": Field("allocation to follow: the same workdir, or its allocation.json"),
    "policy.loaded": Field("the path that this section was filled from"),
    "policy.choice.*": Field("strategy of this difficulty bin at n_N generations, or tokens"),
    "policy.unit": Field("what budgets count", Choice(("generations", "tokens"))),
    "policy.generations.*": Field("generations of this strategy at n_N tokens"),
    **{f"policy.strategies.*.{name}": field for name, field in _ENTRY.items()},
    "policy.bins": Field("difficulty bins of equal size", _COUNT),
    "policy.edges": Field(
        "difficulties at which bins end, such as 0.5,0.1", Each(Real(0, 1), least=0, falls=True)
    ),
    "policy.budgets": Field("generations a question, or tokens (policy.unit)", Each(_COUNT)),
    "policy.difficulty": Field(
        "how the difficulty of a question is told",
        Choice(("oracle", "predicted", "few", "question")),
    ),
    "policy.samples": Field(
        "that tell few's difficulty, or before an allocation's first look", _COUNT
    ),
    "policy.only": Field("strategies to choose from besides the baseline; empty for all"),
    "policy.baseline": Field("strategy that efficiency is measured against"),
    "policy.pools": Field("strategies whose candidates are independent"),
    "policy.resamples": Field("bootstrap resamples of an interval", Whole(10)),
    "budget": Field("generations a question", _COUNT),
    "budgets": Field("generations a question, of all stages", Each(_COUNT)),
    "flops_match.large": Field("run of a larger model's greedy answers to the same questions"),
    "flops_match.scale": Field("its parameters over those of the small model", Real(1)),
    "flops_match.ratios": Field("tokens inferred over tokens trained on", Each(Real(above=True))),
    "flops_match.formula": Field(
        '"iclr" charges the verifier, "arxiv" does not', Choice(tuple(PER_TOKEN))
    ),
    "data.path": Field("workdir or file of the records to read, or of labelled solutions"),
    "data.search": Field("workdir of the search to show"),
    "data.policy": Field('workdir of the policy to show; "" for none'),
    "data.chains": Field('workdir of the revision chains to show; "" for none'),
    "data.ratios": Field('workdir of the sweep over ratios to show; "" for none'),
    "data.verifiers": Field('workdir of the sweep over verifiers to show; "" for none'),
    "data.held_out": Field("share of the questions kept for validation", _SHARE),
    "judge.threshold": Field(
        "a step is wrong below this score; 0 chooses it on held-out questions", Real(0, 1)
    ),
    "data.kept": Field("share of the pairs that repeat a correct answer", Real(0, 1)),
    "data.per_length": Field("chains kept of each length", _COUNT),
    "data.per_question": Field("training pairs a question", _COUNT),
    "model.depth": Field("layers of its own; 0 for a verifier without", Whole()),
    "model.width": Field("width of hidden states", _COUNT),
    "model.heads": Field("query heads", _COUNT),
    "model.kv_heads": Field("key and value heads", _COUNT),
    "model.head_size": Field("width of a head", _COUNT),
    "model.ffn_width": Field("width of the feed-forward layers", _COUNT),
    "model.context": Field("tokens that it can read at most", _COUNT),
    "model.reads_tokens": Field("whether it reads token embeddings beside hidden states"),
    "models": Field("folder of all models, with a / behind; embedded: for those that ship"),
    "models.*": Field("model to gather"),
    "measured.*": Field("run that measured the model"),
    "megabytes": Field("most that all models together may take", Real(above=True)),
    "serve.host": Field("address that is listened on"),
    "serve.port": Field("port that is listened on; 0 for any", Whole(0, 65535)),
    "serve.name": Field('name of the model; "" for the last part of generator.path'),
    "serve.key_file": Field("file of API keys, one a line"),
    **{f"serve.strategies.*.{name}": field for name, field in _ENTRY.items()},
    "serve.strategy": Field('the one of clients that give a budget alone; "" for none'),
    "serve.warm": Field("compiled before it is ready: plain, or strategies as in beam-16"),
    "serve.programs": Field("programs that have slots at once", _COUNT),
    "serve.requests": Field("requests that wait or are being answered, at most", _COUNT),
    "serve.body_bytes": Field("bytes of a request at most", _COUNT),
    "serve.body_seconds": Field("seconds that a request may take to come", Real(above=True)),
    "serve.seconds": Field("seconds until an answer is what is written", Real(above=True)),
    "serve.prompts": Field("prompts of a request at most", _COUNT),
    "serve.n": Field("completions of a prompt at most", _COUNT),
    "serve.prompt_tokens": Field("tokens of a prompt at most", _COUNT),
    "serve.answer_tokens": Field("longest answers that programs are compiled for", Each(_COUNT)),
    "serve.budgets": Field("generations that a question may be given", Each(_COUNT)),
    "train.accumulate": Field("batches whose gradients make one update", _COUNT),
    "train.batch_tokens": Field("tokens of a batch", _COUNT),
    "train.compute_dtype": Field("dtype of computation", Choice(("float32", "bfloat16"))),
    "train.dropout": Field("share of activations dropped", Real(0, 1, below=True)),
    "train.evaluate_every": Field("updates between two validations", _COUNT),
    "train.learning_rate": Field("peak, after warm-up", Real(above=True)),
    "train.lengths": Field("tokens that examples are padded to", Each(_COUNT)),
    "train.past_best": Field("validations kept past the lowest loss", Whole()),
    "train.patience": Field("validations without a new best that end training; 0: never", Whole()),
    "train.remat": Field("whether to recompute activations in the backward pass"),
    "train.steps": Field("updates", _COUNT),
}


def check_fields(config: ConfigDict) -> None:
    """Checks every field of a config that the table knows; the sections of stages too.

    Raises:
        UserError: a value out of range; one line with the flag that mends it.
    """
    values = fields(config)
    # Sections that a policy is read into, or written in by hand.
    follows = [
        m[1] for m in map(re.compile(r"((.*\.)?policy\.)(path|choice\.)").match, values) if m
    ]
    for name, value in values.items():
        found = field_of(name)
        if name.startswith(tuple(follows)):
            continue  # a policy to follow, which `fitted.followed` checks
        if found and found.values and (fault := found.values.fault(value)):
            raise UserError(f"{as_flag(name, value)}: {fault}")


def field_of(name: str) -> Field | None:
    """Returns the table's line for a dotted name; None for one of a user's own config.

    That of a stage, `stage.NAME.field`, is what `field` is.
    """
    if name.startswith("stage.") and name.count(".") > 1:
        name = name.split(".", 2)[2]
    if name in FIELDS:
        return FIELDS[name]
    return next((f for pattern, f in FIELDS.items() if fnmatch.fnmatchcase(name, pattern)), None)
