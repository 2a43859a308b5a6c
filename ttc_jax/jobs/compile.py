"""Compiles a config's programs for a TPU slice that need not be there, and says whether they fit.

    ttc compile --config=configs/tpu.py:llama3.2-1b,v5e-8 --topology=v5e:2x4

No weights are read: of a hub name just its config.json is. Printed are, for each device, the bytes
of HBM that programs take and leave, the FLOPs and bytes of HBM of a call or of one token, the time
that this takes at the chip's peaks, what it waits for, and what is exchanged between chips; then
how many questions and candidates would fit. The exit code is 2 where they do not.

--topology=v5e:2x4    the chips of `mesh`: where a slice has several hosts, each of which searches
                      on chips of its own, those of one host
--prompt=512          tokens of the longest prompts
--stage=NAME          of a config of several stages
--questions=500       says what a search of so many takes; by default those of config.limit
--machines=4          hosts of the slice, each with chips of its own, that share the questions
--price=1.20          of a chip for an hour, in any currency
--json=FILE           writes all of it to a file too
--program=segment     just this one: a search has admit, insert and segment, which does the work
--hlo=DIR             writes the compiled programs there as text

It is libtpu that compiles: pip install 'ttc_jax[tpu]'. Nothing of it is kept: without a TPU JAX can
write compiled programs to its cache, but not read them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ttc_jax.errors import UserError
from ttc_jax.experiments import build
from ttc_jax.experiments.estimate import estimate
from ttc_jax.experiments.fields import check_fields
from ttc_jax.experiments.sections import (
    fresh_tokenizer,
    mesh_of,
    questions_at_once,
    sampling_params,
    storage,
    strategy_of,
)
from ttc_jax.files import refuse_url, write_json
from ttc_jax.jobs import sweep
from ttc_jax.models import int8, parameters
from ttc_jax.models.config import ModelConfig
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.shapes import read_shape
from ttc_jax.models.transformer import Transformer
from ttc_jax.report.console import print_programs
from ttc_jax.sampling.sampler import Sampler, bucket
from ttc_jax.search.search import Search
from ttc_jax.sharding.mesh import make_mesh, place
from ttc_jax.tpu.program import Program, cache_bytes, capacity, device_bytes
from ttc_jax.tpu.topology import Topology, describe
from ttc_jax.training import prm, sft, update
from ttc_jax.training.batches import batch_shapes, rows_of
from ttc_jax.training.optimisation import Optimisation
from ttc_jax.verifiers.load import outline_verifier
from ttc_jax.verifiers.prm import ProcessRewardModel

TAKES = ("run", "sweep", "collect", "train")  # jobs whose programs it compiles
DECODE = "decode_token"  # scope of what makes one token


class Job(NamedTuple):
    """Programs of a config, and what they are given.

    Attributes:
      lowered: by name.
      weights: parameters, as shapes with shardings.
      state: what the main program goes on with: the last of them.
      ideal: bytes that a token must move, where there are tokens.
      questions, candidates: B of a device and N, where there are questions.
    """

    lowered: dict[str, jax.stages.Lowered]
    weights: Any
    state: Any
    ideal: float | None = None
    questions: int = 0
    candidates: int = 0


def main(
    config: ConfigDict,
    workdir: Path | None = None,
    *,
    topology: str = "",
    prompt: str = "512",
    stage: str = "",
    questions: str = "",
    machines: str = "1",
    price: str = "",
    program: str = "",
    json: str = "",
    hlo: str = "",
) -> None:
    """Compiles, and prints what comes of it."""
    del workdir
    width, hosts = _count("--prompt", prompt, 2), _count("--machines", machines, 1)
    asked, paid = _count("--questions", questions or "0", 0), _price(price)
    refuse_url(hlo, "--hlo")
    refuse_url(json, "--json")
    jax.config.update("jax_enable_compilation_cache", False)
    config = _stage(config, stage)
    check_fields(config)
    target = describe(topology)
    job = _job(config, target, bucket(width))
    if program:
        if program not in job.lowered:
            raise UserError(f"--program={program}: must be one of {', '.join(job.lowered)}")
        job = job._replace(lowered={program: job.lowered[program]})
    programs = list(_compiled(job, target, Path(hlo) if hlo else None))
    print_programs(programs)
    result: dict[str, Any] = {
        "topology": target.name,
        "chip": dataclasses.asdict(target.chip),
        "programs": [found.to_json() for found in programs],
    }
    if programs[-1].ideal_bytes == job.ideal:
        result["capacity"] = _capacity(programs[-1], job)
    searches = () if "kind" in config or "rollouts" in config else _runs(config)
    found = estimate(config, searches, programs, questions=asked, hosts=hosts, chips=target.chips)
    if found is not None:
        result["estimate"] = found.to_json(paid)
        print(*found.lines(paid), sep="\n")
    if json:
        print(f"programs: {write_json(Path(json), result)}")


def _count(flag: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{flag}={text}: must be a whole number, at least {least}")
    return int(text)


def _price(text: str) -> float:
    try:
        price = float(text or 0)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise UserError(f"--price={text}: must be what a chip costs an hour, as in --price=1.20")
    return price


def _capacity(program: Program, job: Job) -> dict[str, Any]:
    """Returns, and prints, how far B or N can grow."""
    most = capacity(program, job.questions, job.candidates, job.state)
    print(
        f"a device has {job.questions} questions of {job.candidates} candidates; there is room "
        f"for {most['questions']} of {job.candidates}, or {job.questions} of {most['candidates']}"
    )
    return {"questions": job.questions, "candidates": job.candidates, "most": most}


def _runs(config: ConfigDict) -> list[ConfigDict]:
    """Returns the config of each search: of a sweep one a cell."""
    return [cell.config for cell in sweep.cells_of(config)] if "sweep" in config else [config]


def _stage(config: ConfigDict, name: str) -> ConfigDict:
    if "stages" not in config:
        if name:
            raise UserError(f"--stage={name}: the config has no stages")
        return config
    if name not in config.stages:
        raise UserError(f"--stage={name}: must be one of {', '.join(config.stages)}")
    return config.stage[name].copy_and_resolve_references()


def _job(config: ConfigDict, topology: Topology, width: int) -> Job:
    if "kind" in config:
        return _training(config, topology)
    if "rollouts" in config:
        return _sampling(config, topology, width)
    if "sweep" in config:  # the search that takes the most memory
        config = max(_runs(config), key=lambda run: run.sampling.n)
    if "search" not in config or "n" not in config.sampling:
        raise UserError("ttc compile takes configs of the jobs run, sweep, collect and train")
    return _search(config, topology, width)


def _search(config: ConfigDict, topology: Topology, width: int) -> Job:
    mesh = _mesh(config, topology)
    generator = _generator(config, mesh)
    verifier = outline_verifier(config.verifier.path, **storage(config.verifier))
    verifier = place(verifier, mesh) if isinstance(verifier, nnx.Module) else None
    strategy = strategy_of(config.search)
    search = Search(
        generator,
        verifier,
        build.plan(config, strategy),
        end_tokens=(),
        delimiter=_delimiter(config.step_delimiter, generator.config.vocab_size),
        execution=build.execution(config, questions_at_once(config, config.sampling.n), mesh),
    )
    state, lowered = search.state(width), search.lower(width)
    return Job(
        lowered,
        nnx.state((generator, verifier)),
        state,
        ideal=_read_a_token(generator) + cache_bytes(state.decode),
        questions=search.execution.batch // mesh.shape["data"],
        candidates=config.sampling.n,
    )


def _delimiter(text: str, vocab_size: int) -> Delimiter:
    """Returns a delimiter that every token ends with: no program depends on a tokenizer's."""
    return Delimiter.in_texts([text] * vocab_size, text)


def _sampling(config: ConfigDict, topology: Topology, width: int) -> Job:
    mesh, sampling = _mesh(config, topology), config.sampling
    generator = _generator(config, mesh)
    sampler = Sampler(
        generator,
        end_tokens=(),
        candidates=sampling.n,
        max_new_tokens=sampling.max_new_tokens,
        batch=questions_at_once(config, sampling.n),
        sampling=sampling_params(config),
        mesh=mesh,
    )
    state = sampler.state(width)
    return Job(
        sampler.lower(width),
        nnx.state(generator),
        state,
        ideal=_read_a_token(generator) + cache_bytes(state),
        questions=sampler.batch // mesh.shape["data"],
        candidates=sampling.n,
    )


def _training(config: ConfigDict, topology: Topology) -> Job:
    train, losses = config.train, {"sft": sft.loss, "revision": sft.loss, "rest_em": sft.loss}
    if config.kind == "probe":
        raise UserError("config.kind=probe is solved for, not trained: there is no such program")
    shape = (
        read_shape(config.start.path)
        if config.start.path
        else ModelConfig(vocab_size=fresh_tokenizer(config).vocab_size, **config.model)
    )
    mesh = _mesh(config, topology)

    def build() -> nnx.Module:
        generator = Transformer(shape, rngs=nnx.Rngs(0))
        if config.kind in losses:
            return generator
        return prm.on_trunk(generator, seed=0, **config.model)

    model = parameters.outline(build)
    names = {field.name for field in dataclasses.fields(Optimisation)}
    program = update.Program(
        model,
        losses.get(config.kind, prm.loss),
        Optimisation(**{name: x for name, x in train.items() if name in names}),
        trainable=prm.trainable(model) if isinstance(model, ProcessRewardModel) else nnx.Param,
        mesh=mesh,
        seed=0,
    )
    length = max(train.lengths)
    rows = rows_of(length, train.batch_tokens, mesh.shape["data"] * train.accumulate)
    return Job({"update": program.lower(batch_shapes(rows, length))}, program.state.weights, ())


def _mesh(config: ConfigDict, topology: Topology) -> Mesh:
    """Returns the mesh of a config, made of a topology's devices."""
    axes, devices = config.execution.mesh, topology.devices
    needed = axes.data * axes.model
    if needed > len(devices) or 1 < needed < len(devices):  # of a part the compiler knows no ways
        fitting = ", ".join(topology.like(needed)) or "no slice has so many"
        raise UserError(
            f"mesh data={axes.data} × model={axes.model} needs {needed} devices; "
            f"--topology={topology.name} has {len(devices)} ({fitting})"
        )
    # One device is a mesh too: it is none of this machine's.
    return mesh_of(config, devices) or make_mesh(1, 1, devices[:1])


def _generator(config: ConfigDict, mesh: Mesh) -> Transformer:
    shape, section = read_shape(config.generator.path), config.generator

    def build() -> Transformer:
        model = Transformer(
            shape,
            rngs=nnx.Rngs(0),
            dtype=jnp.dtype(section.dtype),
            int8_cache=int8.wanted(section.cache),
        )
        return int8.quantised(model) if int8.wanted(section.weights) else model

    return place(parameters.outline(build), mesh)


def _read_a_token(generator: Transformer) -> int:
    """Returns the bytes of weights read for a token; of an embedding that is no head, one row."""
    state = nnx.state(generator)
    total = device_bytes(state)
    return total if generator.head is None else total - device_bytes(state["embedding"])


def _compiled(job: Job, topology: Topology, folder: Path | None) -> Iterator[Program]:
    """Returns the compiled programs; the last one decodes."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for name, lowered in job.lowered.items():
        decodes = name in ("segment", "decode")
        yield Program.of(
            name,
            lowered,
            topology.chip,
            weights=() if name == "insert" else job.weights,
            state=() if name in ("admit", "start") else job.state,
            loop=DECODE if decodes else "",
            ideal=job.ideal if decodes else None,
            keep=(folder / f"{name}.txt").write_text if folder else None,
        )
