"""Completions to time on: real ones where they are at hand, else of the same form; all distinct, or collapsed."""

from __future__ import annotations

import ast
import json
import os
import random
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(os.environ.get("DIVMON_TEST_DATA", Path(__file__).parents[3] / "shared"))
_SOLUTIONS = _FOLDER / "data" / "outputs" / "gsm8k_model_solutions.jsonl"
_PROGRAMS = _FOLDER / "data" / "probes" / "mbpp.jsonl"
_THINGS = ("eggs", "books", "muffins", "dollars", "miles", "tickets", "hours", "apples", "pages", "marbles")
_LINES = (
    "{name} has {a} {thing} and gets {b} more every day, so that is {a} * {b} = <<{a}*{b}={c}>>{c} {thing}",
    "After that {name} gives {a} {thing} to each of {b} friends, which makes {a} x {b} = {c} {thing} in all",
    "In a week there are 7 days so {name} needs {a} {thing} for {b} days or {c} {thing} a week",
    "{c} {thing} are left because {name} sold {a} of them at ${b} each",
    "The total number of {thing} is {a} + {b} = <<{a}+{b}={c}>>{c}",
)
_PROGRAM = """def {name}({x}, n={a}):
    {y} = []
    for i in range(len({x}) - {b}):
        if {x}[i] % {a} == 0 and {x}[i] > n:
            {y}.append({x}[i] * {b} + i)
    return sorted({y})[:{a}]"""
_NAMES = ("i", "j", "k", "x", "n", "s", "res", "total", "count", "item", "nums", "text", "result", "value")


def are_real() -> bool:
    return _SOLUTIONS.is_file() and _PROGRAMS.is_file()


def solutions(prompts: int, samples: int, distinct: float) -> list[list[str]]:
    """For each prompt so many worked answers, on average so many of them distinct."""
    rng = random.Random(0)
    rows = _rows(_SOLUTIONS)
    grounds = [row["outputs"] for row in rows] or [[_solution(rng) for _ in range(4)] for _ in range(prompts)]
    return [_samples(grounds[p % len(grounds)], _other_numbers, samples, distinct, rng) for p in range(prompts)]


def programs(prompts: int, samples: int, distinct: float) -> list[list[str]]:
    """For each prompt so many programs, on average so many of them distinct."""
    rng = random.Random(0)
    rows = _rows(_PROGRAMS)
    grounds = [row["code"].replace("\r", "") for row in rows] or [_PROGRAM.format(**_fill(rng)) for _ in range(prompts)]
    return [_samples([grounds[p % len(grounds)]], _other_names, samples, distinct, rng) for p in range(prompts)]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _samples(grounds: list[str], change: Any, samples: int, distinct: float, rng: random.Random) -> list[str]:
    wanted = int(distinct) + (rng.random() < distinct % 1)
    found = list(dict.fromkeys(grounds))[:wanted]
    while len(found) < wanted:
        other = change(rng.choice(grounds), rng)
        if other not in found:
            found.append(other)
    drawn = found + rng.choices(found, k=samples - wanted)
    rng.shuffle(drawn)
    return drawn


def _solution(rng: random.Random) -> str:
    lines = [rng.choice(_LINES).format(**_fill(rng)) for _ in range(rng.randint(2, 6))]
    return "\n".join([*lines, f"A: {rng.randint(1, 999)}"])


def _fill(rng: random.Random) -> dict[str, Any]:
    a, b = rng.randint(2, 40), rng.randint(2, 40)
    x, y = rng.sample(_NAMES, 2)
    name = rng.choice(("Janet", "Tom", "Maria", "Wendi", "Josh", "Carla"))
    return {"name": name, "thing": rng.choice(_THINGS), "a": a, "b": b, "c": a * b, "x": x, "y": y}


def _other_numbers(text: str, rng: random.Random) -> str:
    """The same wording that comes to other figures."""
    return re.sub(r"\d+", lambda found: str(max(1, int(found[0]) + rng.randint(-20, 40))), text) + " " * rng.randint(
        0, 1
    )


def _other_names(code: str, rng: random.Random) -> str:
    """The same program with other names and constants, or as it was where that does not parse."""
    changed = code
    for old, new in zip(rng.sample(_NAMES, 4), rng.sample(_NAMES, 4), strict=True):
        changed = re.sub(rf"\b{old}\b", f"{new}{rng.randint(0, 9)}", changed)
    changed = re.sub(r"\b\d+\b", lambda found: str(rng.randint(0, 99)), changed) + f"\n# {rng.randint(0, 10**6)}"
    try:
        ast.parse(changed)
    except SyntaxError:
        return code
    return changed
