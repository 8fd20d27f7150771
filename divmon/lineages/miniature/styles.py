"""Ten ways to write the same working down, each ending in `#### N`. Some leave no choice of words, some a few."""

from __future__ import annotations

import random
from collections.abc import Callable

from divmon.lineages.miniature.problems import MISTAKES, Problem, Step, work

SPOKEN = {"+": "plus", "-": "minus", "*": "times"}
UNDO = {"+": "-", "-": "+", "*": "/"}


def solve(problem: Problem, style: str, rng: random.Random, *, wrong: bool = False) -> str:
    """A solution in that style, ending in `#### N`. A wrong one carries a plausible mistake, and its N is not the gold.

    Raises:
        ValueError: no such style.
    """
    return write(problem, worked(problem, rng, wrong=wrong), style, rng)


def worked(problem: Problem, rng: random.Random, *, wrong: bool = False) -> list[Step]:
    """The steps of a solution; of a wrong one with a plausible mistake, and another end than the gold."""
    steps = work(problem)
    while wrong:
        steps = work(problem, rng.choice(MISTAKES), rng)
        # Some mistakes end at the right number after all (2+2 for 2*2), or below zero, where nobody would believe them.
        if steps[-1].result != problem.answer and all(0 <= step.result <= 99 for step in steps):
            break
    return steps


def write(problem: Problem, steps: list[Step], style: str, rng: random.Random) -> str:
    """Steps written down in that style, ending in `#### N`.

    Raises:
        ValueError: no such style.
    """
    if style not in STYLES:
        raise ValueError(f"no style named {style!r}; there are {', '.join(STYLES)}")
    return f"{STYLES[style](problem, steps, rng)}\n#### {steps[-1].result}"


def _equations(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    return "\n".join(str(step) for step in steps)


def _one_line(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    expression = f"{steps[0].left}{steps[0].op}{steps[0].right}"
    for step in steps[1:]:
        expression = f"({expression}){step.op}{step.right}"
    return f"{expression}={steps[-1].result}"


def _numbered(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    return "\n".join(f"Step {i}: {step}" for i, step in enumerate(steps, 1))


def _first_then(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    is_ = rng.choice(("is", "makes", "gives"))
    parts = [f"{step.left} {SPOKEN[step.op]} {step.right} {is_} {step.result}." for step in steps]
    return " ".join(f"{word} {part}" for word, part in zip(("First,", "Then,"), parts, strict=False))


def _story(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    ways = {
        "+": ("{right} more makes {result}", "adding {right} brings it to {result}"),
        "-": ("taking {right} away leaves {result}", "without {right} there are {result}"),
        "*": ("{right} times as many is {result}", "taken {right} times it is {result}"),
    }
    told = [rng.choice(ways[step.op]).format(right=step.right, result=step.result) for step in steps]
    begin = rng.choice(("We start with", "There are"))
    return f"{begin} {steps[0].left} {problem.things}. " + ", and ".join(told).capitalize() + "."


def _table(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    return "\n".join(f"| {step.left}{step.op}{step.right} | {step.result} |" for step in steps)


def _checked(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    last = steps[-1]
    word = rng.choice(("Check", "To check", "Proof"))
    return f"{' and '.join(map(str, steps))}. {word}: {last.result}{UNDO[last.op]}{last.right}={last.left}."


def _backwards(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    because, since = rng.choice((("because", "and"), ("since", "where")))
    return f"It is {steps[-1].result} {because} " + f" {since} ".join(str(step) for step in reversed(steps)) + "."


def _questions(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    return "\n".join(f"What is {step.left}{step.op}{step.right}? It is {step.result}." for step in steps)


def _algebra(problem: Problem, steps: list[Step], rng: random.Random) -> str:
    letter = rng.choice("xny")
    first, *rest = steps
    text = f"Let {letter}={first.left}{first.op}{first.right}, so {letter}={first.result}."
    return text + "".join(f" Now {letter}{step.op}{step.right}={step.result}." for step in rest)


STYLES: dict[str, Callable[[Problem, list[Step], random.Random], str]] = {
    "equations": _equations,
    "one_line": _one_line,
    "numbered": _numbered,
    "first_then": _first_then,
    "story": _story,
    "table": _table,
    "checked": _checked,
    "backwards": _backwards,
    "questions": _questions,
    "algebra": _algebra,
}
