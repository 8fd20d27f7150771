"""What a mixture's data say before training: each figure in closed cases, and in `divmon data`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from divmon.cli import main
from divmon.training.composition import Composition
from divmon.training.composition.form import decoded_shares, embedded, form, without_content
from divmon.training.composition.predictors import EVIDENCE, predictors
from divmon.training.composition.rows import TextRow
from divmon.training.composition.sources import PROMPTS, Gathered, rows_of_mixture

PLACES = {
    "p": (1.0, 0.0),
    "near p": (0.8, 0.6),
    "q": (0.0, 1.0),
    "up": (1.0, 0.0),
    "down": (-1.0, 0.0),
    "aside": (0, 1),
}


def encode(texts: list[str]) -> torch.Tensor:
    assert len(texts) == len(set(texts)), "each text is read once"
    return torch.tensor([PLACES[text] for text in texts], dtype=torch.float32)


def test_by_hand() -> None:
    """Two prompts that are far apart, one with two completions of two teachers, one with two of one."""
    rows = [("a", "p", "up"), ("b", "p", "down"), ("a", "q", "up"), ("a", "q", "up")]
    found = predictors(rows, encode)
    assert (found.teachers, found.rows) == (2, 4)
    share = 6 / 10  # of the characters: up, up and up against down
    assert found.teacher_entropy == pytest.approx(-share * math.log(share) - (1 - share) * math.log(1 - share))
    assert found.opening_overlap == pytest.approx(3 / 6), "pairs: three of up, three of up and down"
    assert found.within_source == pytest.approx(0.0), "b has no pair"
    assert found.same_prompt == pytest.approx((2.0 + 0.0) / 2)


def test_conditional_is_over_the_nearest_prompts_and_by_length() -> None:
    """Six rows, so that the four nearest leave one out: what is said to a far prompt does not count."""
    rows = [("a", "p", "up"), *[("a", "near p", "up")] * 4, ("a", "q", "down")]
    alike = predictors(rows, encode).conditional
    weight = {"up": 2, "down": 4}
    # `down` has its four nearest among the others; `up` to "p" has the four of "near p"; these see each other and "p".
    assert alike == pytest.approx((5 * 2 * 0.0 + weight["down"] * 2.0) / (5 * 2 + 4))
    mixed = [("a", "p", word) for word in ("up", "down", "up", "down", "up", "down")]
    few = predictors(mixed, encode)
    assert few.conditional > alike and few.same_prompt == pytest.approx(2 * 9 / 15)


def test_one_teacher_of_one_wording_is_zero_everywhere() -> None:
    found = predictors([("a", "p", "up"), ("a", "q", "up"), ("a", "near p", "up")], encode)
    assert found.teacher_entropy == found.within_source == found.conditional == 0 and found.opening_overlap == 1
    assert math.isnan(found.same_prompt)
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        predictors([("a", "p", "up")], encode)


def test_content_is_put_aside() -> None:
    prompt = "Ida buys 3 bags with 4 cards each. How many cards?"
    assert without_content(prompt, "Ida has 3 x 4 = 12 Cards, 1,200.50 in all") == "_ has # x # = # _, # in all"
    assert without_content("", "so it is") == "so it is"


def test_shares_are_those_of_drawing() -> None:
    even = decoded_shares({"a": 5, "b": 5}, 0.6, 0.95)
    assert even == pytest.approx({"a": 0.5, "b": 0.5})
    cool = decoded_shares({"a": 80, "b": 20}, 0.5)
    assert cool == pytest.approx({"a": 16 / 17, "b": 1 / 17}), "the shares squared"
    assert decoded_shares({"a": 80, "b": 20}, 0.5, 0.9) == {"a": 1.0}, "top-p after the temperature"
    assert decoded_shares({"a": 80, "b": 20}) == pytest.approx({"a": 0.8, "b": 0.2})
    with pytest.raises(ValueError, match="above 0"):
        decoded_shares({"a": 1}, 0.0)


def form_of(rows: list[tuple[str, str, str]], **decoding: float) -> float:
    sources, prompts, completions = zip(*rows, strict=True)
    bare = list(map(without_content, prompts, completions))
    return form(sources, embedded(prompts, encode), embedded(bare, encode), **decoding)


def test_form_by_hand() -> None:
    """Two sources of opposite form, on one prompt: of a share p and 1 - p, 2 p (1 - p) of all pairs are 2 apart."""
    rows = [("a", "p", "up")] * 6 + [("b", "p", "down")] * 2
    assert form_of(rows) == pytest.approx(2 * 2 * 6 * 2 / (8 * 7)), "no row with itself"
    assert form_of(rows, temperature=0.1, top_p=0.9) == pytest.approx(0.0), "the small source is never drawn"
    assert form_of(rows, temperature=0.6) < form_of(rows) < form_of(rows, temperature=2.0)
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        form_of(rows[:1])


def test_the_sample_of_a_mixture_has_the_shares_of_its_sources() -> None:
    large, small = (Gathered(name, 8, 0) for name in ("large", "small"))
    for i in range(4 * PROMPTS):
        large.add(TextRow("large", f"question {i}", "up"), 1, 1)
        if i % 8 == 0:
            small.add(TextRow("small", f"question {i}", "down"), 1, 1)
    rows = rows_of_mixture([large, small], most=600)
    assert len(rows) == 600
    assert sum(source == "small" for source, *_ in rows) / 600 == pytest.approx(1 / 9, abs=0.04)
    asked = {prompt for source, prompt, _ in rows if source == "small"}
    assert len(asked - {prompt for source, prompt, _ in rows if source == "large"}) <= 1, "the same prompts of both"


def test_divmon_data_shows_them_and_what_they_have_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    rows = [{"prompt": f"What is {i // 2} plus 1?", "completion": f"It is {i // 2 + 1}, I say."} for i in range(12)]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    main(["data", str(file), "--embedder", "minilm", "--metrics", "sbert", "--json", str(out)])
    shown = capsys.readouterr().out
    assert "completions of the same or near prompts 0." in shown and "of the same prompt 0.000" in shown
    assert "form_decoded 0." in shown and EVIDENCE in shown
    assert Composition.read(out).predictors["teachers"] == 1
