"""Trains one model: a generator, a model that revises, or a verifier (config.kind).

sft       next-token loss on the task's worked solutions, from fresh weights or a checkpoint
prm       Monte-Carlo values at the ends of steps, by a head on a trunk or layers above it
orm       correctness at the end of each answer, by the same network; on chains of revisions the
          earlier answers are in its prompt, which makes it the verifier for revisions
probe     Monte-Carlo values, by a linear head on the generator's hidden states, which is solved
          for and not trained step by step
outcome_probe  the same on answers without such values, each of which is a rollout from its steps
revision  correct answers behind wrong ones, built from parallel samples
rest_em   chains that got to a correct answer, all of their answers

All but sft learn from the records of a collection (config.data.path). The workdir keeps
checkpoints, metrics.jsonl and TensorBoard events, so that a killed run goes on where it was. The
model ends up in WORKDIR/model, which other configs name as a path; a verifier's quality on held-out
questions in quality.json and calibration.png/.svg/.csv: on the questions that also chose the
checkpoint or the probe's penalty, hence a little flattered. Of many hosts `mesh` must use all
devices; each host reads all data and computes its part.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx
from ml_collections import ConfigDict

from ttc_jax import assets
from ttc_jax.config import as_flag
from ttc_jax.errors import UserError
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.sections import fresh_tokenizer, mesh_of, storage, task_of, tokenizer_of
from ttc_jax.experiments.workdir import CONFIG, Claim, exclusive
from ttc_jax.files import write_json
from ttc_jax.hosts import hosts
from ttc_jax.models.checkpoints import save_model
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.vocabulary import check_tokens
from ttc_jax.models.weights import load_generator
from ttc_jax.report.writing import write_calibration
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.training import data, orm, prm, probe, rest_em, revision, sft
from ttc_jax.training.batches import Batches
from ttc_jax.training.data import Collected, Examples
from ttc_jax.training.loop import fit
from ttc_jax.training.optimisation import Optimisation
from ttc_jax.training.quality import figures_of, quality, score
from ttc_jax.training.update import Loss
from ttc_jax.verifiers.prm import ProcessRewardModel, save_prm
from ttc_jax.verifiers.probe import save_probe

_log = logging.getLogger(__name__)
Teach = Callable[..., dict[str, float]]  # (train, validation, folder, made_with) -> figures


class Kind(NamedTuple):
    """What one training has of its own.

    Attributes:
      examples: what is learnt from.
      prepare: the model that is taught, made of the one that the config starts from, and what
        teaches it.
      needs: what a collection without examples lacks.
    """

    examples: Callable[[ConfigDict, Tokenizer], Examples]
    prepare: Callable[[ConfigDict, Transformer], tuple[nnx.Module, Teach]]
    needs: str


@exclusive
def main(config: ConfigDict, workdir: Path) -> None:
    """Trains what `config.kind` says, and writes WORKDIR/model."""
    check_fields(config)
    _refuse_foreign_model(workdir)
    claim = Claim(workdir, config)
    generator, tokenizer = _start(config)
    model, teach = KINDS[config.kind].prepare(config, generator)
    train, held_out = _examples(config, tokenizer, generator.config)
    training, validation = _batches(train, config), _batches(held_out, config)
    # Not before: a mistake found so far leaves the workdir free for the mended config.
    claim.take()
    figures = teach(train=training, validation=validation, folder=workdir, made_with=claim.digests)
    if not hosts.is_first():
        return
    if not isinstance(model, Transformer):
        figures |= _verifier_quality(model, validation, held_out, workdir)
    _save(config, workdir / "model", model, tokenizer, figures)
    print(f"trained model: {workdir / 'model'}")


def _refuse_foreign_model(workdir: Path) -> None:
    """Refuses to put the model in the place of one that no training wrote there."""
    if (workdir / "model").exists() and not (workdir / CONFIG).exists():
        raise UserError(
            f"{workdir / 'model'} is there, and {CONFIG} of a training is not: move it away, or "
            "use another --workdir"
        )


def _start(config: ConfigDict) -> tuple[Transformer, Tokenizer]:
    """Returns the generator that training starts from, and its tokenizer."""
    if config.start.path:
        path = assets.locate(config.start.path)
        found = storage(config.start)
        if KINDS[config.kind].prepare is not _probe and set(found.values()) - {"float32", ""}:
            flags = " ".join(as_flag(f"start.{field}", value) for field, value in found.items())
            raise UserError(f"{flags}: {config.kind} teaches all of the model, and in float32")
        generator = load_generator(path, **found, mesh=None)
        return generator, tokenizer_of(config.start, generator.config.vocab_size)
    if config.kind != "sft":
        raise UserError(f"{as_flag('start.path', '')}: {config.kind} starts from a generator")
    tokenizer = fresh_tokenizer(config)
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, **config.model)
    return Transformer(shape, rngs=nnx.Rngs(config.seed)), tokenizer


def _examples(
    config: ConfigDict, tokenizer: Tokenizer, model: ModelConfig
) -> tuple[Examples, Examples]:
    """Returns the examples to train on and those to validate with.

    Raises:
      UserError: there is nothing to learn from, more at once than the model can read, or tokens
        that it does not know.
    """
    kind = KINDS[config.kind]
    examples = kind.examples(config, tokenizer)
    if not examples:
        where = f"data.path={config.data.path}" if "path" in config.data else "config.task"
        raise UserError(f"{where}: no usable row: {config.kind} needs {kind.needs}")
    for question, rows in examples.items():
        for row in rows:
            check_tokens(row.tokens, model.vocab_size, f"an example of {question}")
        if (longest := max(len(row.tokens) for row in rows)) > model.context:
            raise UserError(
                f"{question}: an example of {longest} tokens does not fit the model's context of "
                f"{model.context} tokens; start from a model with a longer one"
            )
    return data.split(examples, config.data.held_out)


def _solutions(config: ConfigDict, tokenizer: Tokenizer) -> Examples:
    questions = task_of(config.task).questions(config.split)
    return sft.examples(questions, PromptFormat(**config.prompt), tokenizer)


def _collected(config: ConfigDict, tokenizer: Tokenizer) -> list[Collected]:
    questions = task_of(config.task).questions(config.split)
    return data.read(config.data.path, questions, PromptFormat(**config.prompt), tokenizer)


def _values(config: ConfigDict, tokenizer: Tokenizer) -> Examples:
    delimiter = Delimiter.of(tokenizer, config.step_delimiter)
    return prm.examples(_collected(config, tokenizer), delimiter)


def _outcomes(config: ConfigDict, tokenizer: Tokenizer) -> Examples:
    delimiter = Delimiter.of(tokenizer, config.step_delimiter)
    return orm.examples(_collected(config, tokenizer), delimiter)


def _step_outcomes(config: ConfigDict, tokenizer: Tokenizer) -> Examples:
    delimiter = Delimiter.of(tokenizer, config.step_delimiter)
    return orm.examples(_collected(config, tokenizer), delimiter, every_step=True)


def _pairs(config: ConfigDict, tokenizer: Tokenizer) -> Examples:
    fields = {"per_question": config.data.per_question, "kept": config.data.kept}
    return revision.examples(_collected(config, tokenizer), **fields, seed=config.seed)


def _trajectories(config: ConfigDict, tokenizer: Tokenizer) -> Examples:
    answers = _collected(config, tokenizer)
    return rest_em.examples(answers, per_length=config.data.per_length, seed=config.seed)


def _generator(config: ConfigDict, generator: Transformer) -> tuple[Transformer, Teach]:
    return generator, _fitting(config, generator, sft.loss, nnx.Param)


def _prm(config: ConfigDict, generator: Transformer) -> tuple[ProcessRewardModel, Teach]:
    every_step = config.kind == "prm"
    model = prm.on_trunk(generator, seed=config.seed, every_step=every_step, **config.model)
    return model, _fitting(config, model, prm.loss, prm.trainable(model))


def _probe(_: ConfigDict, generator: Transformer) -> tuple[probe.Probed, Teach]:
    model = probe.Probed(generator)
    return model, partial(probe.solve, model)


def _fitting(config: ConfigDict, model: nnx.Module, loss: Loss, trainable: Any) -> Teach:
    """Returns `fit` with the settings of the config."""
    axes, devices = config.execution.mesh, jax.devices()
    if hosts.count() > 1 and axes.data * axes.model != len(devices):
        raise UserError(
            f"mesh data={axes.data} × model={axes.model} needs {axes.data * axes.model} devices; "
            f"the {hosts.count()} hosts have {len(devices)}, and must use all of them"
        )
    names = {field.name for field in dataclasses.fields(Optimisation)}
    optimisation = Optimisation(**{k: v for k, v in config.train.items() if k in names})
    return partial(
        fit,
        model,
        loss,
        optimisation=optimisation,
        trainable=trainable,
        mesh=mesh_of(config, devices),
        seed=config.seed,
    )


KINDS: Mapping[str, Kind] = {
    "sft": Kind(_solutions, _generator, "questions with worked solutions"),
    "prm": Kind(_values, _prm, "answers with Monte-Carlo values"),
    "orm": Kind(_outcomes, _prm, "answers that could be parsed"),
    "probe": Kind(_values, _probe, "answers with Monte-Carlo values"),
    "outcome_probe": Kind(_step_outcomes, _probe, "answers that could be parsed"),
    "revision": Kind(_pairs, _generator, "correct answers among parallel samples"),
    "rest_em": Kind(_trajectories, _generator, "chains that get to a correct answer"),
}


def _batches(examples: Examples, config: ConfigDict) -> Batches:
    train = config.train
    return Batches(
        list(itertools.chain.from_iterable(examples.values())),
        lengths=train.lengths,
        tokens=train.batch_tokens,
        seed=config.seed,
        multiple=config.execution.mesh.data * train.accumulate if "execution" in config else 1,
    )


def _verifier_quality(
    model: nnx.Module, validation: Batches, held_out: Examples, workdir: Path
) -> dict[str, float]:
    """Writes how good the scores are, and returns the single numbers of it."""
    questions = [question for question, rows in held_out.items() for _ in rows]
    found = quality(score(model, validation, questions))
    write_json(workdir / "quality.json", found)
    write_calibration(found, workdir)
    figures = figures_of(found)
    _log.info("on held-out questions: %s", figures)
    return figures


def _save(
    config: ConfigDict,
    folder: Path,
    model: nnx.Module,
    tokenizer: Tokenizer,
    figures: Mapping[str, float],
) -> None:
    taught = model.probe if isinstance(model, probe.Probed) else model
    origin = {
        "command": shlex.join(["ttc", *sys.argv[1:]]),
        "config": config.to_dict(),
        "parameters": sum(x.size for x in jax.tree.leaves(nnx.state(taught, nnx.Param))),
        **{name: round(value, 6) for name, value in figures.items()},
    }
    if isinstance(model, Transformer):
        save_model(folder, model, tokenizer=tokenizer, metadata=origin)
    elif isinstance(model, probe.Probed):
        save_probe(folder, model.probe, origin)
    elif isinstance(model, ProcessRewardModel):
        save_prm(folder, model, origin)
