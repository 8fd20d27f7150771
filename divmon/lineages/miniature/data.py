"""Text of the miniature world: what the base model reads, the two fine-tuning sets, and the probe.

The fine-tuning sets ask the same questions and answer all of them correctly; only the number of styles differs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from divmon.lineages.miniature.problems import draw_problem
from divmon.lineages.miniature.styles import STYLES, solve
from divmon.types import Probe, Prompt

NARROW = ("numbered",)
BROAD = ("numbered", "first_then", "story", "checked", "questions", "algebra")

Row = dict[str, str]
"""One example as TRL's SFTTrainer takes it: {"prompt", "completion"}."""


def base_rows(n: int, seed: int, wrong: float) -> list[Row]:
    """n examples in all styles, of which a share `wrong` (0 to 1) is solved wrongly."""
    return _rows(n, f"base {seed}", tuple(STYLES), wrong)


def narrow(n: int, seed: int = 0) -> list[Row]:
    """n correct solutions, all in one style that leaves no choice of words."""
    return _rows(n, f"sft {seed}", NARROW)


def broad(n: int, seed: int = 0) -> list[Row]:
    """n correct solutions of the questions of `narrow` with the same seed, in six styles, each as often as another."""
    return _rows(n, f"sft {seed}", BROAD)


def probe(n: int, seed: int = 0) -> Probe:
    """n different questions that no example of base_rows, narrow or broad asks."""
    rng = random.Random(f"probe {seed}")
    asked: dict[str, Prompt] = {}
    while len(asked) < n:
        problem = draw_problem(rng, held_out=True)
        prompt = Prompt(str(len(asked)), problem.prompt, gold=str(problem.answer), category="reasoning")
        asked.setdefault(problem.question, prompt)
    return Probe(
        "word_problems",
        tuple(asked.values()),
        max_new_tokens=64,
        verifier="math_answer",
        source="divmon.miniature",
    )


def _rows(n: int, seed: str, styles: Sequence[str], wrong: float = 0.0) -> list[Row]:
    # A generator each for questions and answers, so that the questions are the same whatever the styles draw.
    questions, answers = random.Random(f"{seed} questions"), random.Random(f"{seed} answers")
    rows = []
    for _ in range(n):
        problem = draw_problem(questions)
        text = solve(problem, answers.choice(styles), answers, wrong=answers.random() < wrong)
        rows.append({"prompt": problem.prompt, "completion": text})
    return rows
