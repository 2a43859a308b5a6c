"""Difficulty bins: equal in size, easiest first, ties by id."""

from ttc_jax.compute.difficulty import quantile_bins


def test_quintiles_are_equal_in_size_and_ordered():
    ease = {f"q/{i:02}": i / 20 for i in range(20)}
    bins = quantile_bins(ease)
    assert [list(bins.values()).count(b) for b in range(5)] == [4] * 5
    for harder, easier in zip(sorted(ease, key=lambda q: ease[q]), list(ease)[1:], strict=False):
        assert bins[harder] >= bins[easier]


def test_ties_are_told_apart_by_id_whatever_the_order():
    for order in ("bdac", "cadb"):
        ease: dict[str, float] = dict.fromkeys(order, 0.5)
        assert quantile_bins(ease, bins=2) == {"a": 0, "b": 0, "c": 1, "d": 1}


def test_fewer_questions_than_bins():
    assert quantile_bins({"a": 0.9, "b": 0.1}) == {"a": 0, "b": 2}
