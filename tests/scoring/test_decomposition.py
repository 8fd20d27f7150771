"""The decomposition against the design written out plainly, by hand, and on every pairwise metric."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from divmon.scoring.decomposition import STRATA, decompose, pairs
from divmon.scoring.intervals import FEWEST
from divmon.scoring.metrics import ast_subtree, code_embedding, nli, sbert
from divmon.types import TERMS

VERDICTS = st.sampled_from([True, False, None])
DISTANCES = st.one_of(st.floats(0, 2), st.just(math.nan))


@st.composite
def sides(draw: st.DrawFn, prompts: int) -> tuple[np.ndarray, list]:
    """Distances [P, N, N] and verdicts, ragged, of one side."""
    samples = draw(st.integers(0, 5))
    verdicts = draw(st.lists(st.lists(VERDICTS, max_size=samples), min_size=prompts, max_size=prompts))
    values = draw(st.lists(DISTANCES, min_size=1, max_size=30))
    upper = np.triu(np.resize(np.array(values), (prompts, samples, samples)), 1)
    return upper + upper.transpose(0, 2, 1), verdicts


@st.composite
def both_sides(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list, list]:
    prompts = draw(st.integers(0, 8))
    (reference, before), (now, after) = draw(sides(prompts)), draw(sides(prompts))
    return reference, now, before, after


def kind(a: bool, b: bool) -> str:
    return "cross" if a != b else "correct" if a else "wrong"


def plainly(reference: np.ndarray, now: np.ndarray, before: list, after: list) -> dict[str, float]:
    """The estimators section of the design, sentence by sentence, without a single array operation."""
    prompts = []
    for p in range(len(before)):
        both = []
        for distances, verdicts in ((reference[p], before[p]), (now[p], after[p])):
            strata: dict[str, list[float]] = {stratum: [] for stratum in STRATA}
            for i, j in combinations(range(len(verdicts)), 2):
                if verdicts[i] is not None and verdicts[j] is not None and not math.isnan(distances[i, j]):
                    strata[kind(verdicts[i], verdicts[j])].append(distances[i, j])
            both.append(strata)
        if all(any(strata.values()) for strata in both):
            prompts.append(both)
    return estimate(prompts)


def estimate(prompts: list, cap: float = 0.5) -> dict[str, float]:
    def average(values: list[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    def overall(strata: dict) -> float:
        return average([d for values in strata.values() for d in values])

    def weight(strata: dict, s: str) -> float:
        return len(strata[s]) / sum(len(values) for values in strata.values())

    found = {"n": len(prompts), "change": average([overall(now) - overall(then) for then, now in prompts])}
    for s in STRATA:
        seen, all_weight, supported_weight = [], [], []
        for then, now in prompts:
            w = (weight(then, s) + weight(now, s)) / 2
            there = bool(then[s] and now[s])
            seen.append((average(now[s]) - average(then[s])) * w if there else 0.0)
            supported_weight.append(w if there else 0.0)
            all_weight.append(w)
        support = average(supported_weight) / average(all_weight) if sum(all_weight) else math.nan
        found[f"seen_{s}"], found[f"support_{s}"] = average(seen), support
        found[f"narrowing_{s}"] = average(seen) / max(support if support == support else 0, cap)
    found["quality_control"] = found["change"] - sum(found[f"narrowing_{s}"] for s in STRATA)
    return found | {"_prompts": prompts}


@settings(max_examples=300, deadline=None)
@given(both_sides())
def test_the_parts_add_up_and_equal_the_design_written_out(given_sides: tuple) -> None:
    parts, expected = decompose(*given_sides), plainly(*given_sides)
    assert parts.n == expected["n"]
    if not parts.n:
        assert math.isnan(parts.change) and all(math.isnan(value) for value in parts.terms.values())
        return
    for variant in (parts.terms, *parts.bracket.values()):
        assert sum(variant.values()) == pytest.approx(parts.change, abs=1e-9)
    assert parts.now - parts.reference == pytest.approx(parts.change, abs=1e-9)
    for name in ("change", *TERMS):
        assert getattr(parts, name) == pytest.approx(expected[name], abs=1e-9), name
    for s in STRATA:
        assert parts.seen[s] == pytest.approx(expected[f"seen_{s}"], abs=1e-9)
        assert parts.support[s] == pytest.approx(expected[f"support_{s}"], abs=1e-9, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(both_sides())
def test_intervals_equal_recomputation_with_each_prompt_left_out(given_sides: tuple) -> None:
    parts, prompts = decompose(*given_sides), plainly(*given_sides)["_prompts"]
    n = len(prompts)
    if n < FEWEST:
        assert all(math.isnan(bound) for interval in parts.ci95.values() for bound in interval)
        return
    left_out = [estimate(prompts[:p] + prompts[p + 1 :]) for p in range(n)]
    for name in ("change", *TERMS):
        if name.removeprefix("narrowing_") in STRATA and not parts.n_supported[name.removeprefix("narrowing_")]:
            assert all(math.isnan(bound) for bound in parts.ci95[name])
            continue
        values = np.array([one[name] for one in left_out])
        error = math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
        reach = scipy_stats.t.ppf(0.975, n - 1) * error
        assert parts.ci95[name] == pytest.approx(
            (getattr(parts, name) - reach, getattr(parts, name) + reach), abs=1e-7
        ), name


def by_stratum(verdicts: list[list[bool]], **distance: float) -> np.ndarray:
    """Distances that depend on the verdicts alone."""
    return np.array([[[distance[kind(a, b)] for b in row] for a in row] for row in verdicts])


BEFORE = [[True, True, False, False], [True, False, False, False], [True, True, True, False]]
AFTER = [[True, True, True, False], [True, True, False, False], [True, True, True, True]]


def test_accuracy_alone_is_quality_control_alone() -> None:
    same = {"correct": 0.1, "wrong": 0.5, "cross": 0.4}
    parts = decompose(by_stratum(BEFORE, **same), by_stratum(AFTER, **same), BEFORE, AFTER)
    assert parts.change < -0.05 and parts.quality_control == pytest.approx(parts.change)
    assert [parts.terms[f"narrowing_{s}"] for s in STRATA] == pytest.approx([0, 0, 0])


def test_narrowing_at_fixed_verdicts_has_no_quality_control_and_is_told_by_stratum() -> None:
    then = by_stratum(BEFORE, correct=0.3, wrong=0.5, cross=0.4)
    now = by_stratum(BEFORE, correct=0.1, wrong=0.5, cross=0.4)
    parts = decompose(then, now, BEFORE, BEFORE)
    share_correct = (1 / 6 + 0 + 3 / 6) / 3
    assert parts.narrowing_correct == pytest.approx(-0.2 * share_correct) == parts.change
    assert parts.quality_control == pytest.approx(0) and parts.narrowing_cross == pytest.approx(0)
    assert parts.correct_pair_change == pytest.approx(-0.2) and parts.n_supported["correct"] == 2
    assert parts.labels == {}


def test_symmetric_weights_lie_between_reference_and_present_ones() -> None:
    """One prompt, by hand: correct pairs are 1 of 6 before and 3 of 6 now, and lose 0.2."""
    then, now = (
        by_stratum(BEFORE[:1], correct=0.3, wrong=0.5, cross=0.4),
        by_stratum(AFTER[:1], correct=0.1, wrong=0.5, cross=0.4),
    )
    parts = decompose(then, now, BEFORE[:1], AFTER[:1])
    assert parts.narrowing_correct == pytest.approx(-0.2 * (1 / 6 + 3 / 6) / 2)
    assert parts.bracket["reference_weights"]["narrowing_correct"] == pytest.approx(-0.2 / 6)
    assert parts.bracket["present_weights"]["narrowing_correct"] == pytest.approx(-0.2 * 3 / 6)


@pytest.mark.parametrize(
    ("seen_on", "unseen_on", "support", "factor", "label"),
    [(3, 2, 0.75, 1 / 0.75, None), (1, 8, 0.2, 2, "mostly unseen"), (0, 5, 0, 0, "not identifiable")],
)
def test_what_was_seen_is_at_most_doubled(
    seen_on: int, unseen_on: int, support: float, factor: float, label: str | None
) -> None:
    """Pairs of correct answers on both sides on some prompts, on the present side alone (half the weight) on others."""
    before = [[True, True]] * seen_on + [[False, False]] * unseen_on
    after = [[True, True]] * (seen_on + unseen_on)
    then, now = by_stratum(before, correct=0.4, wrong=0.5, cross=0), by_stratum(after, correct=0.1, wrong=0, cross=0)
    parts = decompose(then, now, before, after)
    assert parts.support["correct"] == pytest.approx(support)
    assert parts.seen["correct"] == pytest.approx(-0.3 * seen_on / (seen_on + unseen_on))
    assert parts.narrowing_correct == pytest.approx(factor * parts.seen["correct"])
    assert parts.labels.get("correct") == label and parts.labels["wrong"] == "not identifiable"
    assert math.isnan(parts.ci95["narrowing_wrong"][0])
    assert parts.labels["cross"] == "no such pairs" and math.isnan(parts.support["cross"])
    if seen_on:
        assert parts.correct_pair_change == pytest.approx(-0.3)  # free of what is assumed of the others
    else:
        assert math.isnan(parts.correct_pair_change)


def test_the_change_of_a_correct_pair_weighs_prompts_by_their_pairs() -> None:
    three, one, none = [True, True, True, False], [True, True, False, False], [False, False, False, True]
    before = after = [three, one] * 3 + [none]
    levels = (([a, b] * 3, 9.0) for a, b in ((0.3, 0.4), (0.2, 0.0)))
    then, now = (np.zeros((7, 4, 4)) + np.array([*level, rest])[:, None, None] for level, rest in levels)
    parts = decompose(then, now, before, after)
    assert parts.correct_pair_change == pytest.approx((3 * -0.1 + 1 * -0.4) / 4) and parts.n_supported["correct"] == 6
    without_three, without_one = (2 * 3 * -0.1 + 3 * -0.4) / 9, (3 * 3 * -0.1 + 2 * -0.4) / 11
    left_out = np.array([without_three, without_one] * 3)
    reach = scipy_stats.t.ppf(0.975, 5) * math.sqrt(5 / 6 * np.square(left_out - left_out.mean()).sum())
    low, high = parts.ci95["correct_pair_change"]
    assert (low, high) == pytest.approx((-0.175 - reach, -0.175 + reach))


def test_percent_of_the_change_only_where_it_means_something() -> None:
    generator = np.random.default_rng(0)

    def noisy(verdicts: list, **distance: float) -> np.ndarray:
        noise = generator.normal(0, 0.01, (len(verdicts), 4, 4))
        return by_stratum(verdicts, **distance) + noise + noise.transpose(0, 2, 1)

    before, after = BEFORE * 8, AFTER * 8
    then = noisy(before, correct=0.3, wrong=0.5, cross=0.4)
    shares = decompose(then, noisy(after, correct=0.1, wrong=0.4, cross=0.3), before, after).share_percent
    assert shares is not None and sum(shares.values()) == pytest.approx(100) and min(shares.values()) > 0
    assert decompose(then, noisy(after, correct=0.1, wrong=0.9, cross=0.3), before, after).share_percent is None
    assert decompose(then, noisy(before, correct=0.3, wrong=0.5, cross=0.4), before, before).share_percent is None


def test_unjudged_samples_count_neither_way_and_prompts_with_one_judged_are_left_out() -> None:
    before, after = [[True, None, False], [None, None, True]], [[True, True, None], [True, True, True]]
    distance_PNN = np.arange(18.0).reshape(2, 3, 3)
    parts = decompose(distance_PNN, distance_PNN, before, after)
    assert parts.n == 1 and (parts.reference, parts.now) == (2.0, 1.0)  # the pair (0, 2), then (0, 1)
    assert pairs(distance_PNN, before).count_P.tolist() == [1, 0]


def test_rounding_of_one_value_is_not_called_an_opposite_sign() -> None:
    verdicts = [[True, True, False]] * FEWEST
    then = by_stratum(verdicts, correct=0.3, wrong=0.3, cross=0.7) + np.arange(FEWEST)[:, None, None] / 97
    shares = decompose(then, then / 3, verdicts, verdicts).share_percent
    assert shares is not None and shares["quality_control"] == pytest.approx(0, abs=1e-9)


EMBEDDINGS = torch.nn.functional.normalize(torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
MASK = torch.tensor([[True] * 6, [True] * 5 + [False], [True] * 6])
PROGRAMS = [[f"x = [{k}, {k % 2}]\nprint(x[{k % 3}] + {p})" for k in range(5)] + ["not python ("] for p in range(3)]
TEXTS = [[f"It is {k % 3}. So {p}." for k in range(5)] + [None] for p in range(3)]


def classify(asked: list[tuple[str, str]]) -> torch.Tensor:
    return torch.tensor([[float(a != b), 0.0, float(a == b)] for a, b in asked])


@pytest.mark.parametrize(
    "distances",
    [
        lambda: sbert.pairwise(EMBEDDINGS, MASK),
        lambda: code_embedding.pairwise(EMBEDDINGS.bfloat16(), MASK),
        lambda: ast_subtree.pairwise(PROGRAMS),
        lambda: nli.pairwise(TEXTS, classify),
    ],
    ids=["sbert", "code_embedding", "ast_subtree", "nli"],
)
def test_any_pairwise_metric_goes_in_as_it_comes_out(distances: object) -> None:
    given_PNN = distances()  # type: ignore[operator]
    before = [[True, False, True, None, False, True]] * 3
    after = [[True, True, True, False, True]] * 3
    parts = decompose(given_PNN, given_PNN[:, :5, :5] / 2, before, after)
    assert parts.n == 3 and parts.change < 0
    assert sum(parts.terms.values()) == pytest.approx(parts.change, abs=1e-9)
    assert given_PNN.isnan().any()  # undefined pairs were among them


def test_it_reads_as_json_with_the_documented_keys() -> None:
    before, after = BEFORE * 2, AFTER * 2
    then, now = by_stratum(before, correct=0.3, wrong=0.5, cross=0.4), by_stratum(after, correct=0.1, wrong=0, cross=0)
    entry = json.loads(json.dumps(decompose(then, now, before, after).as_dict(), allow_nan=False))
    assert {
        "reference",
        "now",
        "change",
        *TERMS,
        "seen",
        "support",
        "correct_pair_change",
        "bracket",
        "ci95",
        "n",
    } <= set(entry)
    assert set(entry["seen"]) == set(entry["support"]) == {"correct", "wrong", "cross"}
    assert entry["ci95"]["change"][0] < entry["change"] < entry["ci95"]["change"][1]
    assert set(entry["ci95"]) == {"reference", "now", "change", *TERMS, "correct_pair_change"}
    nothing = decompose(then[:1], now[:1], [[None] * 4], AFTER[:1]).as_dict()
    assert nothing["n"] == 0 and nothing["change"] is None


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"shape \[prompts, samples, samples\], got \(2, 3, 4\)"):
        pairs(np.zeros((2, 3, 4)), [[True]] * 2)
    with pytest.raises(ValueError, match="2 prompts with up to 3 samples, verdicts of 2 prompts with up to 4"):
        pairs(np.zeros((2, 3, 3)), [[True] * 4] * 2)
    with pytest.raises(ValueError, match="same prompts on both sides; got 2 and 1 prompts"):
        decompose(np.zeros((2, 3, 3)), np.zeros((1, 3, 3)), [[True]] * 2, [[True]])
