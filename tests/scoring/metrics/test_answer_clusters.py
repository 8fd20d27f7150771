"""Clusters of answers: closed forms, properties, and what a verifier's final answers and the prompt's direction do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.scoring.metrics.answer_clusters import THRESHOLD, answer_clusters, distances, without
from divmon.scoring.metrics.prompt_removed import prompt_removed
from divmon.scoring.metrics.sbert import sbert
from divmon.scoring.metrics.token_entropy import token_entropy
from divmon.scoring.metrics.vendi import vendi


def clusters(answers: list[str | None], num_samples: int | None = None) -> dict[str, float]:
    """By final answers, beside texts that would all be one cluster."""
    there: list[str | None] = ["same"] * len(answers)
    found = answer_clusters([there], torch.ones(1, len(answers), 3), None, [answers], num_samples)
    return {name: value.item() for name, value in found.items()}


def test_closed_forms() -> None:
    assert clusters(["4"] * 5) == {"semantic_entropy": 0, "effective_answers": 1}
    assert clusters(list("abcd")) == pytest.approx({"semantic_entropy": math.log(4), "effective_answers": 8})
    # Two pairs: of 6 pairs 2 are in one cluster.
    assert clusters(list("aabb")) == pytest.approx(
        {"semantic_entropy": math.log(2), "effective_answers": 8 / (1 + 7 / 3)}
    )
    assert clusters(["a", "a", "b", "c"], num_samples=2)["semantic_entropy"] == 0, "the first K"
    assert clusters(["a", "b", None, None])["effective_answers"] == 8, "those without an answer are left out"
    assert clusters(["a", None])["effective_answers"] == 1, "one final answer tells nothing: by the texts"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_order_and_names_do_not_matter_and_merging_answers_never_adds(answers: list[str], random: object) -> None:
    before = clusters(list(answers))
    shuffled = [{"a": "x", "b": "y", "c": "z", "d": "w"}[a] for a in answers]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert clusters(list(shuffled)) == pytest.approx(before)
    merged = clusters([{"d": "c"}.get(a, a) for a in answers])
    assert all(merged[name] <= before[name] + 1e-12 for name in before)


def test_the_effective_number_is_unbiased_in_the_share_of_pairs() -> None:
    """Over all ways to draw 2 of 4 samples, the mean share of pairs alike is that of the 4."""
    answers = list("aaab")
    share = {name: (8 / clusters(some)["effective_answers"] - 1) / 7 for name, some in {"all": answers}.items()}
    pairs = [(i, j) for i in range(4) for j in range(i)]
    of_two = [(8 / clusters([answers[i], answers[j]])["effective_answers"] - 1) / 7 for i, j in pairs]
    assert share["all"] == pytest.approx(sum(of_two) / len(of_two)) == pytest.approx(0.5)


def test_texts_are_alike_by_meaning_without_the_prompt_and_by_words() -> None:
    topic, a, b = torch.eye(3).double()
    embeddings = torch.stack([topic + a / 4, topic + b / 4, topic + b / 4])
    texts: list[str | None] = ["Paris it is", "go to Rome", "Go to Rome!"]
    assert distances(["x", "x"], without(embeddings[:2], topic))[0, 1] == pytest.approx(0.5)
    found = answer_clusters([texts], embeddings[None], topic[None])
    assert found["semantic_entropy"].item() == pytest.approx(-(1 / 3) * math.log(1 / 3) - (2 / 3) * math.log(2 / 3))
    # With the prompt's direction they are one by meaning alone, and words decide.
    assert distances(["a b", "c d"], without(embeddings[:2], None))[0, 1] == pytest.approx(0.5 + 0.5 / 17, abs=0.01)
    assert 0 < THRESHOLD < 1


def test_without_a_direction_that_answers_do_not_have_nothing_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(2, 6, 5, generator=generator)
    raw[..., 0] = 0
    embeddings = torch.nn.functional.normalize(raw, dim=-1)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 2:] = False
    embeddings = embeddings * mask[..., None]
    found = prompt_removed(embeddings, mask, torch.eye(5)[[0, 0]])
    assert torch.allclose(found["sbert_prompt_removed"], sbert(embeddings, mask)["sbert"], atol=1e-9)
    assert torch.allclose(found["vendi_prompt_removed"], vendi(embeddings, mask)["vendi"], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 9)), min_size=1, max_size=6))
def test_token_entropy_is_the_mean_over_tokens_whatever_completion_they_are_in(rows: list[tuple[float, int]]) -> None:
    facts = torch.tensor([[[x, float(x > 0.672), 0.5, x] for x, _ in rows]], dtype=torch.float64)
    lengths = torch.tensor([[float(n) for _, n in rows]])
    tokens = [x for x, n in rows for _ in range(n)]
    found = token_entropy(facts, lengths)
    assert found["token_entropy"].item() == pytest.approx(sum(tokens) / len(tokens))
    assert found["forking_tokens"].item() == pytest.approx(sum(x > 0.672 for x in tokens) / len(tokens))
