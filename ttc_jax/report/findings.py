"""What was found, in sentences: the first lines of a report.

Each is computed from the summaries, with its 95 % interval. Where they show nothing, the sentence
says so, or is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ttc_jax.report.console import label, unit
from ttc_jax.report.looks import known_as
from ttc_jax.report.table import Summary

Point = Mapping[str, float]
_POOL: Final = "best_of_n"
_PARTS: Final = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth"}
_HOPELESS: Final = 0.05  # accuracy below which nothing helps
_SAVES: Final = 1.05  # times as many generations that count as saved
_KINDS: Final = {  # what a user can have comes first
    "predicted": "predicted difficulty",
    "few": "difficulty predicted from few samples",
    "question": "difficulty predicted from the question",
    "oracle": "oracle difficulty",
}


def findings(summaries: Mapping[str, Summary]) -> list[str]:
    """What the summaries of a report's jobs show, the most important first.

    Args:
      summaries: see `report.sections.sections`.
    """
    found: list[str] = []
    if search := summaries.get("search"):
        found += _of_search(search) if "bins" in search else _of_rules(search)
    if policy := summaries.get("policy"):
        found += [*_of_policy(policy), *_of_flops_match(policy)]
    if (chains := summaries.get("chains")) and chains.get("chains"):
        found += _of_chains(chains["chains"])
    return found


def _of_search(summary: Summary) -> Iterator[str]:
    accuracy = summary["accuracy"]
    base, others = accuracy.get(_POOL), {k: v for k, v in accuracy.items() if k != _POOL}
    if not base or not others:
        return
    baseline = label(known_as(_POOL, summary))
    saved = [
        (int(m) / int(n), point["mean"], name, n, m)
        for name, curve in others.items()
        for n, point in curve.items()
        for m, known in base.items()
        if int(m) >= 2 * int(n) and point["mean"] >= known["mean"]
    ]
    if saved:
        _, _, name, n, m = max(saved)
        yield (
            f"{_start(name)} with {n} generations is at least as accurate as {baseline} with {m}: "
            f"{_percent(others[name][n])} against {_percent(base[m])}."
        )
    elif both := [(int(n), name) for name, curve in others.items() for n in curve if n in base]:
        most = str(max(both)[0])
        name = max((x for n, x in both if str(n) == most), key=lambda x: others[x][most]["mean"])
        yield (
            f"No strategy saves half of the generations of {baseline}. With {most}, "
            f"{label(name)} has {_percent(others[name][most])}, {baseline} {_percent(base[most])}."
        )
    yield from _of_bins(summary["bins"])


def _of_bins(bins: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What becomes of the hardest questions."""
    if len(bins) < 2:
        return
    part, hardest = _PARTS.get(len(bins), "bin"), bins[-1]
    cells = [
        (point["mean"], name, n)
        for name, curve in hardest["accuracy"].items()
        for n, point in curve.items()
    ]
    if not cells:
        return
    mean, name, n = max(cells)
    best = _percent(hardest["accuracy"][name][n])
    alone = f"{100 * hardest['pass_at_1']:.1f} %"
    if mean < _HOPELESS:
        yield (
            f"On the hardest {part} of the questions nothing helps: no strategy at any budget is "
            f"right in more than {best}, a single sample in {alone}."
        )
    else:
        yield (
            f"On the hardest {part} of the questions, where a single sample is right in {alone}, "
            f"{label(name)} with {n} generations is right in {best}."
        )


def _of_rules(summary: Summary) -> Iterator[str]:
    """What choosing among the same candidates brings."""
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
    kind = next((x for x in _KINDS if x in fitted), next(iter(fitted), None))
    if kind is None:
        return
    ratios = (summary.get("efficiency") or {}).get(kind, {})
    baseline = known_as(next(iter(summary["accuracy"]), _POOL), summary)
    saves = [(x["low"], not x["censored"], n) for n, x in ratios.items() if x["low"] >= _SAVES]
    if saves:
        low, known, n = max(saves)
        times = (
            f"{ratios[n]['ratio']:.1f} times as many ({low:.1f} to {ratios[n]['high']:.1f})"
            if known
            else f"at least {low:.1f} times as many"
        )
        yield (
            f"The policy by {_KINDS.get(kind, kind)} with {n} {unit(summary)} is as accurate as "
            f"{label(baseline)} with {times}."
        )
    elif ratios:
        yield (
            f"The policy by {_KINDS.get(kind, kind)} saves no {unit(summary)} of {label(baseline)} "
            "that can be told from none."
        )
    if over := fitted[kind].get("over_single"):
        n = max(over, key=lambda n: over[n]["low"])
        adds = f"{_points(over[n])} with {n} {unit(summary)}"
        if over[n]["low"] > 0:
            yield f"Choosing by difficulty adds to the best single strategy: {adds}."
        else:
            yield (
                "Choosing by difficulty adds nothing to the best single strategy that can be told "
                f"from nothing: {adds}."
            )


def _of_flops_match(summary: Summary) -> Iterator[str]:
    matches = summary.get("flops_match") or {}
    kind = next((x for x in _KINDS if x in matches), None)
    if kind is None:
        return
    parts = []
    for ratio, charges in matches[kind].items():
        match = charges.get("verifier") or next(iter(charges.values()))
        difference = match["all"]["difference"]
        if difference is None or not match["affordable"]:
            continue
        side = "behind" if difference["high"] < 0 else "ahead"
        if difference["low"] <= 0 <= difference["high"]:
            side = "not told apart from it"
        parts.append(f"{side} at R = {ratio} ({_points(difference)})")
    if parts:
        yield f"At equal FLOPs the small model is, beside the larger one, {'; '.join(parts)}."


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


def _percent(point: Point) -> str:
    return f"{100 * point['mean']:.1f} % ({100 * point['low']:.0f} to {100 * point['high']:.0f})"


def _points(point: Point) -> str:
    low, high = (100 * point[x] for x in ("low", "high"))
    return f"{100 * point['mean']:+.1f} points ({low:+.1f} to {high:+.1f})"
