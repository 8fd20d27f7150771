"""The prompts every new user sees first: golds recomputed, spread over the categories, short and distinct."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import cache
from math import factorial

import pytest

from divmon.prompts import tasks
from divmon.types import Prompt


@pytest.fixture(scope="module")
def prompts() -> tuple[Prompt, ...]:
    return tasks.load("starter").probe().prompts


def first(condition: Callable[[int], bool], start: int = 0) -> int:
    return next(number for number in itertools.count(start) if condition(number))


@cache
def climbs(steps: int) -> int:
    return 1 if steps < 2 else climbs(steps - 1) + climbs(steps - 2)


def wrong_colours_at_most(limit: int) -> int:
    """The most socks one can hold with no more than `limit` of any colour."""
    return sum(min(limit, stock) for stock in (10, 8, 6))


GOLDS: dict[str, Callable[[], float]] = {
    "reasoning-01": lambda: 12 * 15 - 128 + 12 * 6 - 75,
    "reasoning-02": lambda: 16 * first(lambda hours: (16 + 12) * hours == 84),
    "reasoning-03": lambda: first(lambda minutes: (600 / 20 + 600 / 30 - 20) * minutes == 600),
    "reasoning-04": lambda: wrong_colours_at_most(2) + 1,
    "reasoning-05": lambda: sum((n % 4 == 0) != (n % 6 == 0) for n in range(1, 201)),
    "reasoning-06": lambda: first(lambda adults: 8 * adults + 5 * (150 - adults) == 930),
    "reasoning-07": lambda: (18 + 3) * (12 + 3) - 18 * 12,
    "reasoning-08": lambda: 3 * first(lambda age: 3 * age + 8 == 2 * (age + 8)),
    "reasoning-09": lambda: (13 * 60 + 5) - (9 * 60 + 40) - 3 * 5,
    "reasoning-10": lambda: len(set(itertools.permutations("LEVEL"))),
    "reasoning-11": lambda: sum(int(digit) for number in range(1, 100) for digit in str(number)),
    "reasoning-12": lambda: first(lambda n: n % 5 == 2 and n % 7 == 3, start=51),
    "reasoning-13": lambda: first(lambda price: abs(price * 0.8 * 0.75 - 90) < 1e-9),
    "reasoning-14": lambda: first(lambda d: 3 * (factorial(8) // factorial(6) // 2 - d) + 2 * d == 74),
    "reasoning-15": lambda: 4000 * 5 / 8 - 4000 * 3 / 8,
    "reasoning-16": lambda: climbs(8),
    "instruction-01": lambda: sorted(["plum", "apple", "peach", "fig", "pear", "lemon"]).index("pear") + 1,
    "instruction-02": lambda: sum({n for n in (14, 3, 27, 8, 19, 5, 27, 11, 14) if n >= 10}),
    "instruction-03": lambda: (date(2025, 5, 18) - date(2025, 3, 3)).days,
    "instruction-04": lambda: "every evening the keeper feeds three geese".count("e"),
}


def test_every_gold_is_what_the_arithmetic_gives(prompts: tuple[Prompt, ...]) -> None:
    golds = {prompt.id: float(prompt.gold) for prompt in prompts if prompt.gold is not None}

    assert golds == {prompt_id: float(compute()) for prompt_id, compute in GOLDS.items()}


def test_the_categories_are_the_paper_s(prompts: tuple[Prompt, ...]) -> None:
    assert Counter(prompt.category for prompt in prompts) == {
        "summarization": 10, "code": 10, "reasoning": 16, "instruction": 12, "creative": 8, "values": 8,
    }  # fmt: skip


def test_prompts_are_short_distinct_and_plain(prompts: tuple[Prompt, ...]) -> None:
    texts = [prompt.content for prompt in prompts]

    assert len(set(texts)) == 64
    for text in texts:
        assert isinstance(text, str)
        assert text.isascii() and text == text.strip()
        assert len(text.split()) < 120


def test_prompts_with_a_gold_ask_for_a_line_a_verifier_can_read(prompts: tuple[Prompt, ...]) -> None:
    for prompt in prompts:
        asks = "Answer: <number>" in str(prompt.content)
        assert asks == (prompt.gold is not None), prompt.id


def test_code_prompts_ask_for_one_function(prompts: tuple[Prompt, ...]) -> None:
    for prompt in prompts:
        assert ("self-contained Python function" in str(prompt.content)) == (prompt.category == "code")


def test_the_limits() -> None:
    probe = tasks.load("starter").probe()

    assert (probe.max_new_tokens, probe.stop, probe.verifier, probe.source) == (256, (), "math_answer", "package")
    assert all(prompt.row and prompt.row["id"] == prompt.id for prompt in probe.prompts)
