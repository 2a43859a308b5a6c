import numpy as np
import pytest

from ttc_jax.compute.ledger import Ledger


def test_ledgers_add_up_exactly():
    ledgers = [Ledger(generations=1, decode_tokens=n, generator_flops=2**62) for n in range(5)]
    assert sum(ledgers, Ledger()) == Ledger(
        generations=5, decode_tokens=10, generator_flops=5 * 2**62
    )


def test_round_trip_through_dict():
    ledger = Ledger(1, 2, 3, 4, 5, 6)
    assert Ledger.from_dict(ledger.to_dict()) == ledger
    assert Ledger.from_dict({"generations": 7}) == Ledger(generations=7)


def test_numpy_integers_become_python_integers():
    flops = Ledger(generator_flops=np.int64(2**62)).generator_flops  # pyright: ignore
    assert type(flops) is int


@pytest.mark.parametrize("value", [1.0, "1", None])
def test_only_integers(value):
    with pytest.raises(TypeError):
        Ledger(generations=value)


def test_no_negative_or_unknown_cost():
    with pytest.raises(ValueError, match="decode_tokens is -1"):
        Ledger(decode_tokens=-1)
    with pytest.raises(TypeError, match="wall_time"):
        Ledger.from_dict({"wall_time": 1})
