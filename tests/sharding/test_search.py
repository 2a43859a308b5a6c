"""Search, sampler and rollouts over eight simulated devices give what one device gives."""

import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.sampling.oracle import tiny_generator
from tests.search.toy import (
    ENDS,
    LINES,
    SHALLOW,
    assert_alike,
    delimiter,
    make_plan,
    make_search,
    marked_prm,
    run,
)
from ttc_jax.errors import UserError
from ttc_jax.models import int8, parameters
from ttc_jax.models.cache import KVCache
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.rollouts import Prefix, Rollouts
from ttc_jax.sampling.sampler import Sampler
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.prm_config import PRMConfig

# One key/value head, so that whatever `model` is, some devices share it.
CONFIG = dataclasses.replace(SHALLOW, vocab_size=40, heads=8, kv_heads=1)
TWO_HEADS = dataclasses.replace(CONFIG, kv_heads=2)
MESHES = [(8, 1), (2, 4), (1, 8)]  # 4 x 2: see the search in int8
PLAN = make_plan("beam", {"width": 2}, max_new_tokens=12, rounds=4)
WIDTH = 65  # tokens that the prompts are padded to
RNG = np.random.default_rng(4)
QUESTIONS = [(RNG.integers(0, 40, size).tolist(), i) for i, size in enumerate(range(3, 29, 2))]
PROMPTS, NUMBERS = map(list, zip(*QUESTIONS, strict=True))
OPTIONS: dict[str, Any] = {"end_tokens": ENDS, "seed": 3}
DELIMITER = delimiter([*LINES, *"xyz"])
COLLECTIVES = r"= \(?(\S+\[[\d,]*\]).* (all-\w+|collective-\w+|reduce-scatter|ragged-\w+)[\w-]*\("


def mesh_of(data: int, model: int) -> jax.sharding.Mesh:
    return make_mesh(data, model, jax.devices()[: data * model])


def make(config, mesh=None, **changes) -> Search:
    """A search for as many questions as there are shards."""
    verifier = marked_prm(config)
    options = OPTIONS | {"delimiter": DELIMITER, "batch": mesh.shape["data"] if mesh else 1}
    return make_search(tiny_generator(config), verifier, PLAN, mesh=mesh, **options | changes)


@contextlib.contextmanager
def compiled_programs() -> Iterator[list[str]]:
    """The names of what is compiled meanwhile."""
    names: list[str] = []

    def note(event: str, duration_secs: float, **kwargs: Any) -> None:
        del duration_secs
        if event.endswith("backend_compile_duration"):
            names.append(kwargs["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(note)
    yield names
    jax.monitoring.unregister_event_duration_listener(note)


@functools.cache
def alone(config) -> list[SearchResult]:
    """On one device, question by question."""
    return run(make(config), QUESTIONS)


@functools.cache
def spread(data: int, model: int) -> Search:
    """A search over a mesh, whose programs other tests have compiled or will use."""
    return make(CONFIG, mesh_of(data, model))


@pytest.mark.parametrize(("data", "model"), MESHES)
def test_a_search_is_that_of_one_device(data: int, model: int):
    search, expected = spread(data, model), alone(CONFIG)
    with compiled_programs() as programs, jax.transfer_guard_host_to_device("disallow"):
        found = run(search, QUESTIONS)
    names = ("_run_empty", "_run_admit", "_insert", "_run_segment", "_harvest")
    assert sorted(programs) == sorted(f"jit({name})" for name in names)
    assert search.compilations == 1
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other)
        if model == 1:
            jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_front_is_read_by_every_shard():
    front = RNG.integers(0, 40, 64).tolist()
    questions = [(front + prompt, number) for prompt, number in QUESTIONS[:5]]
    expected = run(make(CONFIG, prefix=front), questions)
    search = make(CONFIG, mesh_of(2, 2), prefix=front)
    with jax.transfer_guard_host_to_device("disallow"):
        found = run(search, questions)
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other)


def outlined(data: int, model: int, dtype: Any = jnp.float32) -> Search:
    """A search with models that are not there."""
    shape = PRMConfig(trunk=CONFIG)
    mesh = mesh_of(data, model)
    return make_search(
        parameters.outline(lambda: Transformer(CONFIG, rngs=nnx.Rngs(0), dtype=dtype)),
        parameters.outline(lambda: ProcessRewardModel(shape, rngs=nnx.Rngs(0), dtype=dtype)),
        PLAN,
        mesh=mesh,
        **OPTIONS | {"delimiter": DELIMITER, "batch": 2 * data},
    )


def test_a_search_in_int8_is_that_of_one_device_question_by_question():
    def narrow(mesh=None, **changes) -> Search:
        generator, verifier = tiny_generator(TWO_HEADS), marked_prm(TWO_HEADS)
        for layers in (generator.layers, verifier.trunk.layers, verifier.layers):
            assert layers is not None
            layers.int8_cache = True
        models = int8.quantised(nnx.clone(generator)), int8.quantised(verifier)
        options: dict[str, Any] = OPTIONS | {"delimiter": DELIMITER, "batch": 1}
        return make_search(*models, PLAN, mesh=mesh, **options | changes)

    found, expected = (
        run(search, QUESTIONS) for search in (narrow(mesh_of(4, 2), batch=8), narrow())
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.trace.parents, other.trace.parents)
        np.testing.assert_allclose(one.step_scores, other.step_scores, atol=1e-5)


def collectives(program: jax.stages.Compiled) -> list[tuple[str, str, int]]:
    """Kind, line and elements of each."""
    found = []
    for line in (program.as_text() or "").splitlines():
        if match := re.search(COLLECTIVES, line):
            shape, kind = match[1], match[2]
            sizes = re.findall(r"\d+", shape[shape.index("[") :])
            found.append((kind, line, math.prod(map(int, sizes))))
    return found


def test_shards_of_questions_exchange_nothing():
    search = spread(8, 1)
    for name, lowered in search.lower(WIDTH).items():
        program = lowered.compile()
        assert collectives(program) == [], name
        if name != "admit":
            held = jax.tree.leaves((search.state(WIDTH).decode.cache, search.state(WIDTH).verifier))
            size = sum(x.size * x.dtype.itemsize for x in held) // 8
            memory: Any = program.memory_analysis()
            assert memory.alias_size_in_bytes >= size, name


def test_the_model_axis_exchanges_activations_and_never_weights_or_caches():
    search = spread(1, 8)
    program = search.lower(WIDTH)["segment"].compile()
    found = collectives(program)
    assert any(kind == "all-reduce" for kind, *_ in found)
    largest = PLAN.candidates * max(CONFIG.vocab_size, 16 * CONFIG.width)
    assert [x for x in found if x[2] > largest] == []
    weights = {math.prod(x.shape) for x in parameters.named(search.engine.parameters).values()}
    ffn = CONFIG.width * CONFIG.ffn_width * 2
    assert ffn in {8 * size for size in weights} | weights
    assert [x for x in found if x[0] == "all-gather" and x[2] >= ffn // 2] == []


def test_caches_have_the_dtype_of_the_weights_and_lie_over_the_mesh():
    search = outlined(2, 4, jnp.bfloat16)
    state = search.state(WIDTH)
    for cache in (state.decode.cache, state.verifier.trunk):
        assert isinstance(cache, KVCache)
        for x in jax.tree.leaves(cache.suffix):
            assert x.dtype == jnp.bfloat16
            assert x.shape[:3] == (4, PLAN.candidates, 4)  # copies of the one head
            assert x.sharding.shard_shape(x.shape)[:3] == (2, PLAN.candidates, 1)
    assert state.decode.log_prob.dtype == state.scores.last.dtype == jnp.float32
    made = Sampler(tiny_generator(CONFIG), candidates=2, max_new_tokens=4, **OPTIONS).state(WIDTH)
    assert made.cache.suffix[0].values.shape[2] == 1


@pytest.mark.parametrize(("data", "model"), [(8, 1), (2, 4)])
def test_samples_and_rollouts_are_those_of_one_device(data: int, model: int):
    settings = OPTIONS | {"candidates": 2, "max_new_tokens": 10, "sampling": SamplingParams(0.9)}
    generator = tiny_generator(TWO_HEADS)

    def roll(mesh, batch: int, slots: int):
        sampler = Rollouts(
            generator, ends=2, slots=slots, rows=2, mesh=mesh, batch=batch, **settings
        )
        return {i: (samples, ends) for i, samples, ends in sampler.run(PROMPTS, NUMBERS, choose)}

    def choose(index: int, samples):
        lengths = samples.lengths.tolist()
        return [Prefix(n, length // 2) for n, length in enumerate(lengths) if length > 1]

    expected, found = roll(None, 1, 1), roll(mesh_of(data, model), data, data)
    for i, one in found.items():
        for mine, other in zip(jax.tree.leaves(one), jax.tree.leaves(expected[i]), strict=True):
            if mine.dtype == np.float32 and model > 1:
                np.testing.assert_allclose(mine, other, rtol=1e-5)
            else:
                np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 6}, "batch is 6; execution.mesh.data=4 must divide it"),
        ({"lanes": 6}, "execution.lanes is 6; execution.mesh.data=4 must divide it"),
        ({"heads": 3}, "mesh model=2 does not divide the 3 query heads of the model"),
        ({"vocab_size": 41}, "mesh model=2 does not divide the 41 vocabulary entries"),
    ],
)
def test_what_a_mesh_does_not_divide_is_refused(changes: dict[str, int], message: str):
    shape = {k: v for k, v in changes.items() if k in ("heads", "vocab_size")}
    generator = parameters.outline(
        lambda: Transformer(dataclasses.replace(CONFIG, **shape), rngs=nnx.Rngs(0))
    )
    placed = {"batch": 4} | {k: v for k, v in changes.items() if k not in shape}
    options = OPTIONS | {"delimiter": DELIMITER} | placed
    with pytest.raises(UserError, match=re.escape(message)):
        make_search(generator, None, make_plan("best_of_n"), mesh=mesh_of(4, 2), **options)
    if "batch" in changes:
        with pytest.raises(UserError, match=re.escape(message)):
            Sampler(
                generator, candidates=2, max_new_tokens=4, mesh=mesh_of(4, 2), batch=6, **OPTIONS
            )
