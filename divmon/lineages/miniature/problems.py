"""The miniature world: two-step word problems, and the working that answers them, right or wrong.

    Mia has 12 apples. She buys 7 and gives away 5. How many apples are left?

    12+7=19, 19-5=14

Everything is drawn from a `random.Random` of the caller's, so a seed gives the same problems everywhere. A tenth of all
questions is held out, by content, so that whatever the seeds no question of a probe is met in training.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Literal

NAMES = {
    **dict.fromkeys(("Mia", "Ana", "Eve", "Zoe", "Ida", "Kim"), "She"),
    **dict.fromkeys(("Tom", "Ben", "Max", "Leo", "Sam", "Jon"), "He"),
}
THINGS = ("apples", "pens", "books", "coins", "cards", "eggs", "stamps", "shells", "cups", "toys")

OPERATIONS = {
    "add_sub": ("+", "-"),
    "sub_add": ("-", "+"),
    "add_add": ("+", "+"),
    "mul_add": ("*", "+"),
    "mul_sub": ("*", "-"),
    "add_mul": ("+", "*"),
}
"""By kind of problem: the operation of the first step, on a and b, and of the second, on its result and c."""

WORDINGS = {
    "add_sub": (
        "{name} has {a} {things}. {pronoun} buys {b} and gives away {c}. How many {things} are left?",
        "{name} finds {a} {things}, then {b} more, and loses {c}. How many {things} are left?",
    ),
    "sub_add": (
        "{name} has {a} {things}. {pronoun} gives away {b} and buys {c}. How many {things} are left?",
        "{name} had {a} {things}, lost {b} and found {c}. How many {things} does {name} have?",
    ),
    "add_add": (
        "{name} has {a} red, {b} blue and {c} green {things}. How many {things} in all?",
        "{name} has {a} {things}. {pronoun} buys {b}, then {c} more. How many {things} in all?",
    ),
    "mul_add": (
        "{name} has {a} boxes of {b} {things} and {c} more. How many {things} in all?",
        "{name} buys {a} bags with {b} {things} each and finds {c}. How many {things} in all?",
    ),
    "mul_sub": (
        "{name} has {a} boxes of {b} {things} and loses {c}. How many {things} are left?",
        "{name} buys {a} bags with {b} {things} each and gives away {c}. How many {things} are left?",
    ),
    "add_mul": (
        "{a} boys and {b} girls bring {c} {things} each. How many {things} in all?",
        "{name} fills {a} red and {b} blue boxes with {c} {things} each. How many {things} in all?",
    ),
}

LARGEST = 5
"""Numbers in a question are from 2 to this: few enough facts for a small model to learn most in a minute."""

Mistake = Literal["slip", "operation", "misread", "stop"]
MISTAKES: tuple[Mistake, ...] = ("slip", "operation", "misread", "stop")


@dataclass(frozen=True)
class Problem:
    """A question with its gold answer, and the reading of it that a solution works from."""

    question: str
    answer: int
    kind: str
    numbers: tuple[int, int, int]
    """a and b of the first step, c of the second."""
    things: str

    @property
    def prompt(self) -> str:
        """The question as the base model is asked it: plain text that ends where a completion begins."""
        return f"{self.question}\n\n"


@dataclass(frozen=True)
class Step:
    """One line of working, `left op right = result`, true or not."""

    left: int
    op: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left}{self.op}{self.right}={self.result}"


def apply(left: int, op: str, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[op]


def draw_problem(rng: random.Random, *, held_out: bool = False) -> Problem:
    """A problem of the training side, or of the held-out tenth of all questions; no step of it ends below 1."""
    while True:
        kind = rng.choice(list(OPERATIONS))
        a, b, c = (rng.randint(2, LARGEST) for _ in range(3))
        middle = apply(a, OPERATIONS[kind][0], b)
        answer = apply(middle, OPERATIONS[kind][1], c)
        name, things = rng.choice(list(NAMES)), rng.choice(THINGS)
        wording = rng.choice(WORDINGS[kind])
        question = wording.format(name=name, pronoun=NAMES[name], things=things, a=a, b=b, c=c)
        if min(middle, answer) >= 1 and (zlib.crc32(question.encode()) % 10 == 0) == held_out:
            return Problem(question, answer, kind, (a, b, c), things)


def work(problem: Problem, mistake: Mistake | None = None, rng: random.Random | None = None) -> list[Step]:
    """The steps to the answer; with a `mistake`, steps that a hurried reader would write.

    slip: a result is off by a little or by ten; operation: a step adds where it should subtract, and so on; misread:
    a number is copied wrongly; stop: the second step is forgotten. The working goes on from its own mistake.
    """
    rng = rng or random.Random(0)
    a, b, c = problem.numbers
    ops = list(OPERATIONS[problem.kind])
    wrong_step = rng.randrange(2)
    if mistake == "operation":
        ops[wrong_step] = rng.choice([op for op in "+-*" if op != ops[wrong_step]])
    if mistake == "misread":
        b, c = (b + rng.choice((-1, 1)), c) if wrong_step == 0 else (b, c + rng.choice((-1, 1)))
    off = [0, 0]
    if mistake == "slip":
        off[wrong_step] = rng.choice((-10, -2, -1, 1, 2, 10))
    middle = apply(a, ops[0], b) + off[0]
    steps = [Step(a, ops[0], b, middle)]
    if mistake != "stop":
        steps.append(Step(middle, ops[1], c, apply(middle, ops[1], c) + off[1]))
    return steps
