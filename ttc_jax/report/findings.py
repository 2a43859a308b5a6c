"""What was found, in sentences: the first lines of a report.

Each is computed from the summaries, with its 95 % interval, and claims a difference only where the
interval does. Where they show nothing, the sentence says so, or is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ttc_jax.report.console import TIES, label, unit
from ttc_jax.report.looks import POOL, known_as
from ttc_jax.report.table import Summary

Point = Mapping[str, float]
Ratio = Mapping[str, Any]
_LEAST: Final = 10  # questions, below which nothing is said of them
_PARTS: Final = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth"}
_HOPELESS: Final = 0.05  # accuracy that is nearly always wrong
_MORE: Final = 1.005  # ratios from which on they show as another than 1.00
_LESS: Final = 0.995
_KINDS: Final = {
    "predicted": "predicted difficulty",
    "few": "difficulty predicted from few samples",
    "question": "difficulty predicted from the question",
    "oracle": "oracle difficulty",
}
_CHARGED: Final = {  # what leaves the least out comes first
    "verifier_and_difficulty": "the verifier and the samples that tell the difficulty included",
    "verifier": "the verifier included but not the samples that tell the difficulty",
    "generator": "the generator's alone",
}


def findings(summaries: Mapping[str, Summary]) -> list[str]:
    """Returns what the summaries of a report's jobs show, the most important first.

    Of fewer than ten questions it is only how few they are: their intervals hold for no others.

    Args:
      summaries: see `report.sections.sections`.
    """
    found: list[str] = []
    known = {name: x for name, x in summaries.items() if x.get("questions", 0) >= _LEAST}
    if search := known.get("search"):
        found += _of_search(search) if "bins" in search else _of_rules(search)
    if policy := known.get("policy"):
        found += [*_of_policy(policy), *_of_flops_match(policy)]
    if (chains := known.get("chains")) and chains.get("chains"):
        found += _of_chains(chains["chains"])
    asked = summaries.get("search", {}).get("questions", 0)
    if 0 < asked < _LEAST:
        found.append(
            f"{asked} question{'s are' if asked > 1 else ' is'} too few to say anything of others: "
            f"findings begin at {_LEAST}."
        )
    return found


def _of_search(summary: Summary) -> Iterator[str]:
    accuracy = summary["accuracy"]
    means = {point["mean"] for curve in accuracy.values() for point in curve.values()}
    if len(means) == 1 and means <= {0, 1}:
        which = "right" if means == {1} else "wrong"
        yield (
            f"All {summary['questions']:,} questions are answered {which} at every budget, so that "
            "they tell no strategy from another."
        )
        return
    if accuracy.get(POOL):
        yield from _of_strategies(summary)
    yield from _of_bins(summary)


def _of_strategies(summary: Summary) -> Iterator[str]:
    """Yields which strategy saves generations of the baseline."""
    base = summary["accuracy"][POOL]
    others = {name: curve for name, curve in summary["accuracy"].items() if name != POOL}
    baseline, largest = label(known_as(POOL, summary)), max(map(int, base))
    measured = summary.get("strategy_efficiency") or {}
    cells = [
        (ratio["low"], -int(n), name)
        for name, curve in measured.items()
        for n, ratio in curve.items()
        if int(n) < largest and n in others.get(name, {})  # none can save with as many
    ]
    if cells and max(cells)[0] >= _MORE:
        _, budget, name = max(cells)
        n = str(-budget)
        yield (
            f"{_start(name)} with {_many(n)}, right in {_percent(others[name][n])}, is as accurate "
            f"as {baseline} with {_times(measured[name][n])}."
        )
        return
    if not others:
        first, last = min(base, key=int), str(largest)
        if first != last:
            yield (
                f"{_start(known_as(POOL, summary))} with {_many(last)} is right in "
                f"{_percent(base[last])}, with {_many(first)} in {_percent(base[first])}."
            )
        return
    both = [int(n) for curve in others.values() for n in curve if n in base]
    most = str(max(both, default=1))
    if most == "1":  # of one candidate there is no choice
        return
    none = f"No strategy is shown to save generations of {baseline}. " if cells else ""
    names = [name for name, curve in others.items() if most in curve]
    name = max(names, key=lambda name: others[name][most]["mean"])
    yield (
        f"{none}With {_many(most)}, {label(name)} is right in {_percent(others[name][most])}, "
        f"{baseline} in {_percent(base[most])}."
    )


def _of_bins(summary: Summary) -> Iterator[str]:
    """Yields what becomes of the hardest questions, where samples apart say which these are."""
    bins = summary["bins"]
    if len(bins) < 2 or not summary.get("separate_difficulty"):
        return
    part, hardest = _PARTS.get(len(bins), "bin"), bins[-1]
    cells = [
        (point["mean"], -int(n), name)
        for name, curve in hardest["accuracy"].items()
        for n, point in curve.items()
    ]
    is_harder = hardest["pass_at_1"] < bins[0]["pass_at_1"]
    if not cells or not is_harder or hardest["questions"] < _LEAST:
        return
    mean, budget, name = max(cells)
    n = str(-budget)
    best = _percent(hardest["accuracy"][name][n])
    of_samples = f"{100 * hardest['pass_at_1']:.1f} % of the samples that tell the difficulty"
    where = f"On the hardest {part}, {hardest['questions']:,} questions"
    tied = hardest.get("tied", 0)
    by_id = (
        f" As easy as some of another bin, so that their ids decide, are {100 * tied:.0f} % of "
        "these questions."
        if tied > TIES
        else ""
    )
    if mean < _HOPELESS:
        yield (
            f"{where}, every strategy is nearly always wrong: none at any budget is right in more "
            f"than {best}; {of_samples} are right.{by_id}"
        )
    else:
        yield (
            f"{where}, where {of_samples} are right, {label(known_as(name, summary))} with "
            f"{_many(n)} is right in {best}.{by_id}"
        )


def _of_rules(summary: Summary) -> Iterator[str]:
    """Yields what choosing among the same candidates brings."""
    accuracy = summary["accuracy"]
    rules = [name for name in accuracy if name != "pass"]
    if not rules:
        return
    n = max((x for name in rules for x in accuracy[name]), key=int)
    rules = [name for name in rules if n in accuracy[name]]
    ranked = sorted(rules, key=lambda name: -accuracy[name][n]["mean"])
    shown = ", ".join(f"{label(x)} {_percent(accuracy[x][n])}" for x in ranked)
    ceiling = accuracy.get("pass", {}).get(n)
    some = f"; some candidate is right in {_percent(ceiling)}" if ceiling else ""
    yield f"Of {n} candidates a question, the answer is right with {shown}{some}."


def _of_policy(summary: Summary) -> Iterator[str]:
    fitted = summary["compute_optimal"]
    kind = _written(summary, fitted)
    if kind is None:
        return
    net, gross = (
        (summary.get(name) or {}).get(kind, {}) for name in ("efficiency_net", "efficiency")
    )
    if net or gross:
        yield from _of_efficiency(summary, kind, net, gross)
    if over := fitted[kind].get("over_single"):
        yield from _of_choosing_by_difficulty(over, unit(summary), kind)
    if not summary.get("separate_difficulty", True):
        yield "Difficulty was told by the samples that are scored, which flatters the policy."


def _of_efficiency(
    summary: Summary, kind: str, net: Mapping[str, Ratio], gross: Mapping[str, Ratio]
) -> Iterator[str]:
    """Yields what a policy saves of the baseline's generations, or costs beside them.

    Args:
      net: by N, with what tells the difficulty; {} where that was not measured.
      gross: by N, without it.
    """
    name, curve = next(iter(summary["accuracy"].items()))
    baseline, policy = label(known_as(name, summary)), f"The policy by {_KINDS.get(kind, kind)}"
    ratios, end = net or gross, max(map(int, curve), default=math.inf)

    def times(n: str) -> str:
        if not net:
            return f"{_times(gross[n])}, not counting those that tell the difficulty"
        if gross.get(n, net[n]) == net[n]:
            return _times(net[n])
        counted = f"{_times(net[n])}, counting those that tell the difficulty"
        return f"{counted}; with {_times(gross[n])}, not counting them"

    saves = [(x["low"], int(n)) for n, x in ratios.items() if x["low"] >= _MORE]
    # Where the baseline's curve ended, in the sample or in resamples, it may need more.
    costs = [
        (x["high"], int(n))
        for n, x in ratios.items()
        if x["high"] <= _LESS and not x["censored"] and n in gross
        if int(n) * gross[n]["high"] < _LESS * end
    ]
    counted = unit(summary)
    if saves:
        n = str(max(saves)[1])
        yield f"{policy} with {_many(n, counted)} is as accurate as {baseline} with {times(n)}."
    if costs:
        n = str(min(costs)[1])
        yield (
            f"{policy} with {_many(n, counted)} takes more than {baseline}, which is as accurate "
            f"with {times(n)}."
        )
    if not saves and not costs:
        ns = [int(n) for n, x in ratios.items() if not x["censored"]]
        shown = ""
        if ns:
            n = str(max(ns))
            shown = f": with {_many(n, counted)} it is as accurate as {baseline} with {times(n)}"
        yield f"{policy} saves no {counted} of {baseline} that can be told from none{shown}."


def _of_choosing_by_difficulty(over: Mapping[str, Point], counted: str, kind: str) -> Iterator[str]:
    """Yields what it adds to the best single strategy, or loses."""
    more = [n for n in over if over[n]["low"] > 0]
    less = [n for n in over if over[n]["high"] < 0]
    uncounted = "" if kind == "question" else ", not counting those that tell the difficulty"

    def at(n: str) -> str:
        return f"{_points(over[n])} with {_many(n, counted)}{uncounted}."

    if more:
        best = max(more, key=lambda n: over[n]["low"])
        yield f"Choosing by difficulty adds to the best single strategy: {at(best)}"
    if less:
        worst = min(less, key=lambda n: over[n]["high"])
        yield f"Choosing by difficulty loses to the best single strategy: {at(worst)}"
    if not more and not less:
        yield (
            "Choosing by difficulty adds nothing to the best single strategy that can be told "
            f"from nothing: {at(max(over, key=int))}"
        )


def _of_flops_match(summary: Summary) -> Iterator[str]:
    matches = summary.get("flops_match") or {}
    kind = _written(summary, matches)
    if kind is None:
        return
    for charged, meaning in _CHARGED.items():
        sides = {
            ratio: charges[charged]
            for ratio, charges in matches[kind].items()
            if charged in charges
        }
        parts = [
            f"{_side(difference)} at R = {ratio} ({_points(difference)})"
            for ratio, match in sides.items()
            if match["affordable"] and (difference := match["all"]["difference"]) is not None
        ]
        if parts:
            yield (
                f"At equal FLOPs ({meaning}) the small model with the policy by "
                f"{_KINDS.get(kind, kind)} is, beside the larger one, {'; '.join(parts)}."
            )
            return


def _side(difference: Point) -> str:
    if difference["low"] <= 0 <= difference["high"]:
        return "not told apart from it"
    return "behind" if difference["high"] < 0 else "ahead"


def _written(summary: Summary, kinds: Mapping[str, Any]) -> str | None:
    """The kind of difficulty of the policy that was written; None where that cannot be known."""
    section = summary.get("config", {}).get("policy")
    kind = section.get("difficulty") if isinstance(section, Mapping) else None
    if kind is None and len(kinds) == 1:
        return next(iter(kinds))
    return kind if isinstance(kind, str) and kind in kinds else None


def _of_chains(chains: Mapping[str, Any]) -> Iterator[str]:
    points = chains["pass_at_1_by_position"]
    if len(points) > 1:
        yield (
            f"Along a chain of revisions the first answer is right in {_percent(points[0])}, "
            f"answer {len(points)} in {_percent(points[-1])}."
        )


def _start(name: str) -> str:
    text = label(name)
    return text[:1].upper() + text[1:]


def _many(n: str, counted: str = "generations") -> str:
    return f"{n} {counted.removesuffix('s') if n == '1' else counted}"


def _times(ratio: Ratio) -> str:
    """How many times as many the baseline needs; the lower end alone where its curve ends."""
    mean, low, high = (
        f"{ratio[x]:.2f}" if ratio[x] < 2 else f"{ratio[x]:.1f}" for x in ("ratio", "low", "high")
    )
    if ratio["censored"]:
        return f"at least {low} times as many"
    return f"{mean} times as many" + (f" ({low} to {high})" if low != high else "")


def _percent(point: Point) -> str:
    """An accuracy; an interval that is a point says nothing of other questions, and is left out."""
    mean = f"{100 * point['mean']:.1f} %"
    if point["low"] == point["high"]:
        return mean
    return f"{mean} ({100 * point['low']:.0f} to {100 * point['high']:.0f})"


def _points(point: Point) -> str:
    low, high = (100 * point[x] for x in ("low", "high"))
    return f"{100 * point['mean']:+.1f} points ({low:+.1f} to {high:+.1f})"
