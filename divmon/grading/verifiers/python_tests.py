"""Generated programs against the tests of their row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from divmon.grading import sandbox
from divmon.grading.program_extraction import extract
from divmon.types import Prompt, Verdict

BATCH = True


def python_tests(
    texts: Sequence[str],
    prompts: Sequence[Prompt],
    complete: Sequence[bool] | None = None,
    *,
    allow_unsandboxed_code: bool = False,
) -> list[Verdict]:
    """Whether each program passes its prompt's tests, run in isolation (`divmon.grading.sandbox`).

    The prompt's `row` is the data set's: HumanEval (prompt, test, entry_point) or MBPP (test_list, test_setup_code).

    Args:
        texts: answers; the program is taken from a fence, or bare, or as the rest of HumanEval's function.
        prompts: the prompt of each.
        complete: parallel to `texts`, False where the token limit truncated the answer: a program that no fence closes
            is then no answer.
        allow_unsandboxed_code: run programs without bubblewrap where it cannot be had.

    Returns:
        None where it is ungradable: no sandbox, no tests in the row, or tests that hand the program what cannot
        leave their process. The `answer` is the program as the text has it.
    """
    verdicts: list[Verdict] = []
    jobs: dict[int, sandbox.Job] = {}
    for i, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        suite = _suite(prompt.row or {})
        program = extract(text, suite.names, suite.prompt) if suite else None
        if suite is None:
            there = ", ".join(sorted(prompt.row or {})) or "no row"
            verdicts.append(
                Verdict(None, f"expected a row with 'test' and 'entry_point', or 'test_list'; came {there}")
            )
        elif program is None:
            verdicts.append(Verdict(False, "no program in the answer"))
        else:
            whole = program.closed or complete is None or complete[i]
            verdicts.append(Verdict(None, answer=program.written if whole else None))
            jobs[i] = sandbox.Submission(
                program.source, suite.tests, suite.prompt, suite.names, not program.closed, any_name=not suite.prompt
            )
    graded = sandbox.run(list(jobs.values()), allow_unsandboxed_code=allow_unsandboxed_code)
    for i, verdict in zip(jobs, graded, strict=True):
        verdicts[i] = replace(verdict, answer=verdicts[i].answer)
    return verdicts


@dataclass(frozen=True)
class _Suite:
    """The tests of a row."""

    tests: str
    names: tuple[str, ...]
    """Of the functions asked for."""
    prompt: str = ""
    """Source that begins the program, in HumanEval; it brings the tests their helpers too."""


def _suite(row: dict[str, Any]) -> _Suite | None:
    """The tests of a row; None where it has none."""
    if "test" in row and "entry_point" in row:
        name = row["entry_point"]
        return _Suite(f"{row['test']}\n\ncheck({name})\n", (name,), row.get("prompt") or "")
    if row.get("test_list"):
        parts = [*(row.get("test_imports") or ()), row.get("test_setup_code") or "", *row["test_list"]]
        return _Suite("\n".join(parts), _asked(row.get("code") or "", row["test_list"]))
    return None


def _asked(solution: str, tests: Sequence[str]) -> tuple[str, ...]:
    """Names that the solution defines and the tests use; without a solution, what the first test calls first."""
    text = "\n".join(tests)
    defined = re.findall(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=", solution, re.MULTILINE)
    names = [name for pair in defined for name in pair if name and re.search(rf"\b{name}\s*\(", text)]
    called = re.findall(r"\b([A-Za-z_]\w*)\s*\(", text)
    called = [
        name for name in called if name not in ("assert", "not", "set", "sorted", "list", "tuple", "abs", "round")
    ]
    return tuple(dict.fromkeys(names)) or tuple(called[:1])
