from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.metric_helpers import close
from torch import Tensor

from divmon.scoring.encoders import NLIClassifier
from divmon.scoring.metrics.nli import nli, pairwise

sentences = st.lists(st.sampled_from(["Yes.", "No!", "It is so", "Why?"]), max_size=5).map(" ".join)
texts = st.lists(sentences, min_size=2, max_size=4)


def judge(pairs: list[tuple[str, str]]) -> Tensor:
    """An unsymmetric rule: entailed when equal, contradicted when the premise is longer."""
    rows = [[float(len(a) > len(b)) / 2, 0.5, float(a == b) / 2] for a, b in pairs]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)


def test_the_papers_values(solutions: list, shared: Path | None) -> None:
    outputs = [row["outputs"] for row in solutions]
    if shared is None:
        assert close(nli([["Yes. No", "Yes. Indeed"]], judge), [1 - (0.5 - 0.25) / 2], 1e-12)
        return
    classifier = NLIClassifier(str(shared / "reference" / "tiny-nli"), device="cpu")
    expected = json.loads((shared / "reference" / "golden_nli.json").read_text())["per_prompt"]
    assert close(nli(outputs, classifier), [row["nli"] for row in expected], 1e-4)


def test_sentences_at_equal_positions_are_read_both_ways_up_to_the_shorter_text() -> None:
    asked: list[tuple[str, str]] = []

    def record(pairs: list[tuple[str, str]]) -> Tensor:
        asked.extend(pairs)
        return judge(pairs)

    value = nli([["One. Two!\nThree", "One. Four"]], record)
    assert sorted(asked) == [("Four", "Two"), ("One", "One"), ("Two", "Four")]
    assert value.item() == pytest.approx(1 - (0.5 - 0.25) / 2)  # ("Four", "Two") alone contradicts, by a half


def test_each_ordered_pair_of_sentences_is_classified_once() -> None:
    asked: list[tuple[str, str]] = []

    def record(pairs: list[tuple[str, str]]) -> Tensor:
        asked.extend(pairs)
        return judge(pairs)

    nli([["A. B"] * 8, ["A. B", "B. A", "A. B"]], record)
    assert len(asked) == len(set(asked)) == 4


@given(texts, st.sampled_from([None, 1, 2]))
def test_order_of_samples_does_not_matter_and_the_range_holds(texts: list[str], count: int | None) -> None:
    value, flipped = nli([texts], judge, count), nli([texts[::-1]], judge, count)
    assert torch.allclose(value, flipped, equal_nan=True)
    assert value.isnan().item() or 0 <= value.item() <= 2


def test_sentences_are_drawn_by_seed_and_do_not_depend_on_other_prompts() -> None:
    long = [". ".join(f"word {i * k}" for i in range(9)) for k in range(4)]
    alone, beside = nli([long], judge, 3), nli([["a", "b"], long], judge, 3)
    assert alone[0] == beside[1] and alone[0] == nli([long], judge, 3)[0]
    assert len({nli([long], judge, 3, seed=s).item() for s in range(6)}) > 1


def test_a_drawn_pair_counts_at_most_the_asked_sentences() -> None:
    asked: list[tuple[str, str]] = []

    def record(pairs: list[tuple[str, str]]) -> Tensor:
        asked.extend(pairs)
        return judge(pairs)

    nli([[". ".join(f"a{i}" for i in range(20)), ". ".join(f"b{i}" for i in range(20))]], record, 3)
    assert len(asked) == 6


def test_texts_without_a_sentence_are_undefined() -> None:
    assert nli([["", "  \n"], ["", "Yes"], ["Yes", None]], judge).isnan().all()
    distance = pairwise([["", "Yes", "Yes"]], judge)[0]
    assert distance[1, 2] == 0.5 and distance[0].isnan().all()
