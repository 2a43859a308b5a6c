"""Trains a model of the embedded task: the generator, or the PRM on its Monte-Carlo step values.

The workdir keeps checkpoints, rollouts, metrics.jsonl and TensorBoard events, so that a killed run
goes on where it was; the model ends up in WORKDIR/model, which other configs name as a path.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ttc_jax import assets
from ttc_jax.config import at_least, claim_workdir, one_of
from ttc_jax.models.checkpoints import save_model
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.tokenizers import CharTokenizer, Tokenizer, load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.parallel.mesh import make_mesh
from ttc_jax.sampling.draw import Drawing
from ttc_jax.sampling.sampler import Sampler, Samples
from ttc_jax.tasks import load_task
from ttc_jax.tasks.arithmetic import PIECES
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.training import prm as prm_training
from ttc_jax.training import sft
from ttc_jax.training.batches import Batches, Example
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation
from ttc_jax.training.rollouts import Collector, Labelled
from ttc_jax.verifiers.prm import ProcessRewardModel, save_prm
from ttc_jax.verifiers.scoring import StepScorer

_log = logging.getLogger(__name__)


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains what `config.kind` says, and writes WORKDIR/model."""
    kinds = {"generator": _train_generator, "prm": _train_prm}
    one_of(config, "kind", tuple(kinds))
    at_least(
        config, 1, "train.steps", "train.batch_tokens", "train_questions", "validation_questions"
    )
    claim_workdir(workdir, config)
    kinds[config.kind](config, workdir)
    print(f"trained model: {workdir / 'model'}")


def _train_generator(config: ConfigDict, workdir: Path) -> None:
    prompt = PromptFormat(**config.prompt)
    tokenizer = CharTokenizer(PIECES)
    train, validation = (
        _batches(sft.examples(questions, prompt, tokenizer), config)
        for questions in _questions(config).values()
    )
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, **config.model)
    model = Transformer(shape, rngs=nnx.Rngs(config.seed))
    figures = fit(
        model,
        sft.loss,
        train,
        validation,
        _optimisation(config),
        workdir,
        mesh=_mesh(config),
        seed=config.seed,
    )
    save_model(
        workdir / "model", model, tokenizer=tokenizer, metadata=_origin(config, model, figures)
    )


def _train_prm(config: ConfigDict, workdir: Path) -> None:
    path = assets.locate(config.generator.path)
    generator = load_generator(path)
    tokenizer = load_tokenizer(path, generator.config.vocab_size)
    collect = _collector(config, generator, tokenizer)
    answers = {
        split: collect.collect(questions, workdir / f"rollouts-{split}.jsonl")
        for split, questions in _questions(config).items()
    }
    model = prm_training.on_trunk(generator, seed=config.seed, **config.model)
    figures = fit(
        model,
        prm_training.loss,
        _batches(prm_training.examples(answers["train"]), config),
        _batches(prm_training.examples(answers["validation"]), config),
        _optimisation(config),
        workdir,
        trainable=prm_training.above_trunk,
        mesh=_mesh(config),
        seed=config.seed,
    )
    figures |= _prm_quality(model, answers["validation"], tokenizer, config)
    _log.info("PRM on validation answers: %s", figures)
    save_prm(workdir / "model", model, _origin(config, model, figures))


def _questions(config: ConfigDict) -> dict[str, list[Question]]:
    """What is trained on and what is validated with, in this order."""
    sizes = {"train": config.train_questions, "validation": config.validation_questions}
    return {
        split: load_task({**config.task, "size": size}).questions(split)
        for split, size in sizes.items()
    }


def _collector(config: ConfigDict, generator: Transformer, tokenizer: Tokenizer) -> Collector:
    at_least(config, 1, "rollouts.samples", "rollouts.ends", "rollouts.max_new_tokens")
    at_least(config, max(config.rollouts.samples, config.rollouts.ends), "rollouts.rows")
    rows = config.rollouts.rows
    shared: dict[str, Any] = {
        "end_tokens": tokenizer.eos_ids,
        "max_new_tokens": config.rollouts.max_new_tokens,
        "drawing": Drawing(temperature=config.rollouts.temperature),
    }
    samples, ends = config.rollouts.samples, config.rollouts.ends
    return Collector(
        task=load_task(config.task),
        prompt=PromptFormat(**config.prompt),
        tokenizer=tokenizer,
        samples=Sampler(
            generator, candidates=samples, batch=rows // samples, seed=config.seed, **shared
        ),
        # Another seed: the ends must not repeat the draws of the samples they judge.
        rollouts=Sampler(
            generator, candidates=ends, batch=rows // ends, seed=config.seed + 1, **shared
        ),
    )


def _prm_quality(
    model: ProcessRewardModel, answers: list[Labelled], tokenizer: Tokenizer, config: ConfigDict
) -> dict[str, float]:
    batch, longest = 256, config.rollouts.max_new_tokens
    scorer = StepScorer(
        model,
        delimiters=tokenizer.containing("\n"),
        candidates=1,
        max_new_tokens=longest,
        batch=batch,
    )
    scores: list[tuple[float, ...]] = []
    for start in range(0, len(answers), batch):
        part = answers[start : start + batch]
        tokens = np.zeros((len(part), 1, longest), np.int32)
        for row, answer in enumerate(part):
            tokens[row, 0, : len(answer.tokens)] = answer.tokens
        lengths = np.array([[len(answer.tokens)] for answer in part])
        samples = Samples(tokens, lengths, np.zeros(lengths.shape), np.ones(lengths.shape, bool))
        scores += [row[0] for row in scorer.score([answer.prompt for answer in part], samples)]
    areas = prm_training.quality(scores, answers)
    return {f"validation_auroc_{name}": area for name, area in areas.items()}


def _batches(examples: list[Example], config: ConfigDict) -> Batches:
    train = config.train
    return Batches(
        examples,
        lengths=train.lengths,
        tokens=train.batch_tokens,
        seed=config.seed,
        multiple=train.mesh.data * train.accumulate,
    )


def _mesh(config: ConfigDict) -> Mesh:
    data, model = config.train.mesh.data, config.train.mesh.model
    return make_mesh(data, model, jax.devices()[: data * model])


def _optimisation(config: ConfigDict) -> Optimisation:
    fields = {field.name for field in dataclasses.fields(Optimisation)}
    return Optimisation(**{name: x for name, x in config.train.items() if name in fields})


def _origin(config: ConfigDict, model: nnx.Module, figures: Mapping[str, float]) -> dict[str, Any]:
    """What model.json says of how a model was made."""
    parameters = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return {
        "command": shlex.join(["ttc", *sys.argv[1:]]),
        "config": config.to_dict(),
        "parameters": parameters,
        **{name: round(value, 6) for name, value in figures.items()},
    }
