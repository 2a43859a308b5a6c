"""The sampler, against an oracle that feeds the whole sequence anew for every token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from tests.sampling.oracle import TINY, Answer, Oracle, tiny_generator
from ttc_jax.errors import UserError
from ttc_jax.models.cache import BLOCK, Layers
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.sampling.decode import DecodeState, decode, start
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.keys import candidate_keys
from ttc_jax.sampling.sampler import Sampler, Samples, bucket, pad_prompts
from ttc_jax.sharding.mesh import make_mesh

END, DELIMITER = 5, (7, 8)
LONGEST = 70  # more than a block of the suffix cache
CANDIDATES, SEED = 3, 4
NUMBERS = (11, 2**32 - 1, 0, 3)
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, TINY.vocab_size, length).tolist() for length in (1, 2, 9, 33)]


@pytest.fixture(scope="module")
def model():
    return tiny_generator()


@pytest.fixture(scope="module")
def oracle(model) -> Oracle:
    return Oracle(model, len(PROMPTS) * CANDIDATES, 60 + LONGEST)


def make_sampler(model, **changes) -> Sampler:
    options = {
        "end_tokens": (END,),
        "candidates": CANDIDATES,
        "max_new_tokens": LONGEST,
        "batch": 4,
        "seed": SEED,
    }
    return Sampler(model, **options | changes)


@pytest.fixture(scope="module")
def sampler(model) -> Sampler:
    return make_sampler(model)


@pytest.fixture(scope="module")
def samples(sampler) -> Samples:
    return sampler.sample(PROMPTS, NUMBERS)


def assert_same(samples: Samples, others: Samples, rows=slice(None)) -> None:
    for name in ("tokens", "lengths", "finished"):
        np.testing.assert_array_equal(getattr(samples, name)[rows], getattr(others, name), name)
    np.testing.assert_allclose(samples.log_prob[rows], others.log_prob, rtol=1e-4)


def assert_as_oracle(samples: Samples, expected: list[list[Answer]]) -> None:
    assert samples.tokens.shape == (len(PROMPTS), len(expected[0]), LONGEST)
    for i, answers in enumerate(expected):
        for n, answer in enumerate(answers):
            length = samples.lengths[i, n]
            assert samples.tokens[i, n, :length].tolist() == answer.tokens
            assert not samples.tokens[i, n, length:].any()
            assert samples.finished[i, n] == answer.finished
            assert samples.log_prob[i, n] == pytest.approx(answer.log_prob, rel=1e-4)


def test_tokens_are_those_of_the_oracle(oracle, samples):
    expected = oracle.sample(
        PROMPTS,
        NUMBERS,
        max_new_tokens=LONGEST,
        candidates=CANDIDATES,
        end_tokens=(END,),
        sampling=SamplingParams(),
        seed=SEED,
    )
    assert_as_oracle(samples, expected)


@pytest.mark.parametrize(
    ("sampling", "candidates", "ends"),
    [
        (SamplingParams(temperature=0.7, top_k=20, top_p=0.8), 2, (END, 30)),
        (SamplingParams(temperature=0), 1, (9,)),
    ],
    ids=["truncated", "greedy"],
)
def test_truncated_and_greedy_tokens_are_those_of_the_oracle(
    model, oracle, sampling, candidates, ends
):
    settings = {"sampling": sampling, "candidates": candidates, "end_tokens": ends, "seed": 9}
    samples = make_sampler(model, **settings).sample(PROMPTS, NUMBERS)
    expected = oracle.sample(PROMPTS, NUMBERS, max_new_tokens=LONGEST, **settings)
    assert_as_oracle(samples, expected)


def test_answers_differ_and_end_both_ways(samples: Samples):
    """What the other tests compare is worth comparing."""
    assert samples.finished.any()
    assert not samples.finished.all()
    assert len(np.unique(samples.tokens.reshape(-1, LONGEST), axis=0)) == 4 * CANDIDATES
    assert len(np.unique(samples.lengths)) > 4


@pytest.mark.parametrize("rows", [[2], [3, 0], [1, 2, 3], [3, 2, 1, 0]], ids=str)
def test_a_question_does_not_mind_its_company(sampler, samples, rows):
    """Bit for bit: the shapes are the same."""
    others = sampler.sample([PROMPTS[i] for i in rows], [NUMBERS[i] for i in rows])
    assert_same(samples, others, rows)


def test_tokens_depend_neither_on_the_batch_size_nor_on_n_nor_on_the_limit(model, samples):
    other = make_sampler(model, batch=2, candidates=5, max_new_tokens=20)
    for rows in (slice(0, 2), slice(2, 4)):
        found = other.sample(PROMPTS[rows], NUMBERS[rows])
        np.testing.assert_array_equal(found.tokens[:, :3], samples.tokens[rows, :, :20])


def test_one_compilation_a_bucket_and_no_hidden_transfer(sampler, samples):
    longer = [[*PROMPTS[3], *PROMPTS[3], *range(i)] for i in (1, 20, 7)]
    with jax.transfer_guard("disallow"):
        found = sampler.sample(PROMPTS, NUMBERS)
        sampler.sample(longer, [1, 2, 3])  # the next bucket
        sampler.sample(longer[:1], [1])
        sampler.sample(PROMPTS[:3], NUMBERS[:3])
    assert_same(found, samples)
    assert sampler._start._cache_size() == sampler.compilations == 2


def test_every_prompt_has_its_own_limit(sampler, samples):
    limits = [1, 69, 13, 70]
    found = sampler.sample(PROMPTS, NUMBERS, limits)
    for i, limit in enumerate(limits):
        np.testing.assert_array_equal(found.lengths[i], np.minimum(samples.lengths[i], limit))
        np.testing.assert_array_equal(found.tokens[i, :, :limit], samples.tokens[i, :, :limit])
        assert not found.tokens[i, :, limit:].any()
    sampler.check([1] * (TINY.context - 5), 5)


def decode_arguments(sampler: Sampler):
    """The arguments of the sampler's compiled loop for PROMPTS."""
    padded, lengths = pad_prompts(PROMPTS, 4)
    streams = np.array([(SEED, number) for number in NUMBERS], np.uint32)
    state = sampler._start(sampler._parameters, padded, lengths, streams)
    active = jnp.ones((4, CANDIDATES), bool)
    return (sampler._parameters, sampler._table), state, active, LIMIT


def test_the_loop_stays_on_the_device_and_reuses_the_caches(sampler, samples):
    arguments = decode_arguments(sampler)
    state = arguments[1]
    compiled = sampler._decode.lower(*arguments).compile()
    text = compiled.as_text().lower()
    for word in ("callback", "infeed", "outfeed", "send(", "recv("):
        assert word not in text
    caches = jax.tree.leaves(state.cache)
    assert compiled.memory_analysis().alias_size_in_bytes >= sum(x.nbytes for x in caches)
    after = sampler._decode(*arguments)
    np.testing.assert_array_equal(after.tokens, samples.tokens)
    assert all(x.values.is_deleted() for x in state.cache.suffix)


@pytest.fixture(scope="module")
def steps(model):
    """`start` and `decode`, compiled once."""
    graph, parameters = nnx.split(model)
    ends = jnp.zeros(TINY.vocab_size, bool).at[END].set(True)

    @jax.jit
    def begin(prompts, lengths, numbers):
        keys = candidate_keys(SEED, numbers, CANDIDATES)
        return start(nnx.merge(graph, parameters), prompts, lengths, keys, LONGEST)

    @jax.jit
    def go_on(state, active, pauses, limit):
        return decode(
            nnx.merge(graph, parameters), state, active, ends, pauses, limit, SamplingParams()
        )

    return begin, go_on


@pytest.fixture(scope="module")
def begun(steps) -> DecodeState:
    return steps[0](*pad_prompts(PROMPTS, 4), np.array(NUMBERS, np.uint32))


PAUSES = Delimiter.in_texts(["\n" if i in DELIMITER else "x" for i in range(TINY.vocab_size)], "\n")
ALL = jnp.ones((4, CANDIDATES), bool)
LIMIT = jnp.full(4, LONGEST)
SLOTS = 2 * BLOCK  # of the suffix cache
SLOT = jnp.arange(SLOTS)[None, None]


def assert_finished(state: DecodeState, samples: Samples) -> None:
    found = jax.device_get((state.tokens, state.cache.length, state.log_prob, state.ended))
    assert_same(samples, Samples(*found))


def test_a_row_pauses_at_its_delimiter_and_goes_on_as_if_it_had_not(steps, begun, samples):
    state, rounds = begun, 0
    while True:
        before = state.cache.length
        state = steps[1](state, ALL, PAUSES, LIMIT)
        tokens, length, ended = jax.device_get((state.tokens, state.cache.length, state.ended))
        drew = length > np.asarray(before)
        if not drew.any():
            break
        rounds += 1
        delimiter = np.isin(tokens, DELIMITER)
        delimiter[..., 1:] &= ~np.isin(tokens, DELIMITER)[..., :-1]  # an empty line ends no step
        last = np.take_along_axis(delimiter, length[..., None] - 1, 2)[..., 0]
        assert (ended | (length == LONGEST) | last)[drew].all()
        new = (np.arange(LONGEST) >= np.asarray(before)[..., None]) & (
            np.arange(LONGEST) < length[..., None] - 1
        )
        assert not delimiter[new].any()  # it stopped at the first one
    assert rounds > 3
    assert_finished(state, samples)


def test_rows_that_are_not_live_keep_still(steps, begun, samples):
    chosen = np.zeros((4, CANDIDATES), bool)
    chosen[1, 2] = chosen[3, 0] = True
    state = steps[1](begun, jnp.asarray(chosen), None, LIMIT)
    length = np.asarray(state.cache.length)
    np.testing.assert_array_equal(length, np.where(chosen, samples.lengths, 0))
    assert not np.asarray(state.tokens)[~chosen].any()
    assert_finished(steps[1](state, ALL, None, LIMIT), samples)


def test_the_limit_is_no_shape(steps, begun, samples):
    state, compiled = begun, set()
    for limit in (1, 9, 9, 40, LONGEST):
        state = steps[1](state, ALL, None, jnp.full(4, limit))
        compiled.add(steps[1]._cache_size())
        np.testing.assert_array_equal(state.cache.length, np.minimum(samples.lengths, limit))
    assert_finished(state, samples)
    assert len(compiled) == 1  # none after the first call


def plant(state: DecodeState, where: jax.Array, value: float) -> DecodeState:
    """`value` in every layer's suffix slots `where`, broadcastable to [B, N, S]."""

    def put(layers: Layers) -> Layers:
        here = jnp.expand_dims(where, (2, 4))
        return tuple(x._replace(values=jnp.where(here, value, x.values)) for x in layers)

    cache = state.cache
    return dataclasses.replace(
        state,
        cache=dataclasses.replace(cache, suffix=put(cache.suffix)),
    )


def test_garbage_behind_a_rows_length_never_shows(steps, begun, samples):
    state = steps[1](begun, ALL, PAUSES, LIMIT)
    behind = state.cache.length[..., None] <= SLOT
    assert_finished(steps[1](plant(state, behind, 1e4), ALL, None, LIMIT), samples)


def test_attention_reads_no_further_than_the_longest_live_row(steps, begun, samples):
    """NaN behind the first block: one reading of it would spread to every row."""
    state = plant(begun, SLOT >= BLOCK, jnp.nan)
    state = steps[1](state, ALL, None, jnp.full(4, BLOCK - 1))
    found = np.asarray(state.tokens)[..., : BLOCK - 1]
    np.testing.assert_array_equal(found, samples.tokens[..., : BLOCK - 1])
    assert np.isfinite(state.log_prob).all()


def test_a_long_row_that_has_stopped_costs_no_attention(steps, begun, samples):
    long = np.zeros((4, CANDIDATES), bool)
    long[np.unravel_index(samples.lengths.argmax(), long.shape)] = True
    state = steps[1](begun, jnp.asarray(long), None, LIMIT)
    assert int(state.cache.length.max()) > BLOCK
    state = plant(state, SLOT >= BLOCK, jnp.nan)
    state = steps[1](state, jnp.asarray(~long), None, jnp.full(4, BLOCK - 1))
    found = np.asarray(state.tokens)[..., : BLOCK - 1]
    np.testing.assert_array_equal(found, samples.tokens[..., : BLOCK - 1])


def test_questions_split_over_devices_give_the_same_tokens(steps, samples):
    def over_data(x):
        return jax.device_put(x, NamedSharding(make_mesh(8, 1), PartitionSpec("data")))

    prompts, lengths = pad_prompts([*PROMPTS, *PROMPTS], 8)
    numbers = np.array([*NUMBERS, *NUMBERS], np.uint32)
    state = over_data(steps[0](prompts, lengths, numbers))
    every, limit = over_data((jnp.concatenate([ALL, ALL]), jnp.full(8, LONGEST)))
    state = steps[1](state, every, None, limit)
    assert state.cache.suffix[0].values.sharding.spec[0] == "data"
    for half in (slice(0, 4), slice(4, 8)):
        assert_finished(jax.tree.map(lambda x: x[half], state), samples)  # noqa: B023


@pytest.mark.parametrize("length", [1, 2, 3, 32, 33, 34, 65, 66, 500])
def test_a_bucket_holds_its_prompt(length: int):
    assert bucket(length) >= length
    assert bucket(length) == 65 or bucket(length) <= 1.5 * length
    assert bucket(length) <= bucket(length + 1)
    assert bucket(bucket(length)) == bucket(length)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"candidates": 0}, "n is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_sizes_below_one_are_refused(model, changes, field):
    with pytest.raises(UserError, match=f"sampling.{field}; it must be at least 1"):
        make_sampler(model, **changes)


@pytest.mark.parametrize("token", [-1, TINY.vocab_size])
def test_end_tokens_that_the_model_does_not_know_are_refused(model, token):
    with pytest.raises(UserError, match=f"end_tokens holds the token {token}"):
        make_sampler(model, end_tokens=(1, token))


def test_prompts_that_do_not_fit_are_refused(sampler):
    longest = TINY.context - LONGEST
    sampler.check([1] * longest)
    for prompt, message in (
        (
            [1] * (longest + 1),
            r"187 tokens and an answer of up to 70 \(sampling.max_new_tokens\) do not",
        ),
        ([], "a prompt is empty"),
        ([1, TINY.vocab_size], f"a prompt holds the token {TINY.vocab_size}, which the model does"),
        ([1, -1], "a prompt holds the token -1"),
        ([1, 2.5], "ids are integers"),
    ):
        with pytest.raises(UserError, match=message):
            sampler.sample([PROMPTS[0], prompt], [1, 2])
