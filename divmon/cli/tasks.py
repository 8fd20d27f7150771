"""`divmon tasks`: which tasks there are, where their rows are, and whether their gold answers pass their verifiers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from divmon.cli.command import argument, command, flag
from divmon.loggers.terminal import Table, show
from divmon.prompts import tasks
from divmon.prompts.tasks import Task

OK, WRONG, PARTLY = 0, 1, 3
SHOWN = 5
"""Gold answers that did not pass, listed for each task."""

_EPILOG = """exit code: 0 all is well; 1 a gold answer did not pass; 2 wrong usage; 3 with --check, some rows could not
be had or some gold answers not graded, each named with its reason."""


@dataclass
class Flags:
    """Lists the tasks: rows upstream, category, verifier, data set, and whether the data can be had here and now (in
    the package, in DIR, in the cache of the datasets library, or on the hub)."""

    names: list[str] = argument("NAME", many=True, required=False)
    """Tasks or groups; all of them if not told."""
    data: Path | None = flag(metavar="DIR")
    """A folder with <task>.jsonl files in the data sets' schemas."""
    check: bool = False
    """Run each task's reference answers through its verifier."""
    num_prompts: int = flag(10**9, metavar="N")
    """With --check, rows of each task; all if not told."""
    allow_unsandboxed_code: bool = False
    """Run reference programs without a sandbox, if there is none."""


@command("divmon tasks", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    chosen = _chosen(given.names)
    if given.data and not given.data.is_dir():
        raise ValueError(f"--data: there is no folder {str(given.data)!r}; expected one with <task>.jsonl files")
    from divmon.prompts.tasks._reach import reach

    there = reach(chosen, given.data)
    if not given.check:
        show(*table(chosen, there))
        return OK
    worst = OK
    for task in chosen:
        whether, where = there[task.name]
        source = Path(where) if given.data and where == str(given.data / f"{task.name}.jsonl") else None
        if whether:
            code, line = check(task, source, given.num_prompts, given.allow_unsandboxed_code)
        else:
            code, line = PARTLY, where
        show(f"{task.name:16}{line}")
        worst = worst if worst == WRONG else WRONG if code == WRONG else max(worst, code)
    return worst


def table(chosen: Sequence[Task], there: dict[str, tuple[bool, str]]) -> list[Table | str]:
    """One line a task, and one for each group."""
    rows = []
    for task in chosen:
        whether, where = there[task.name]
        source = " ".join(filter(None, (task.dataset or "package", task.subset)))
        here = f"{'yes' if whether else 'no'}, {where}"
        rows.append([task.name, f"{task.rows:,}", task.category, task.verifier or "-", source, here])
    names = {task.name for task in chosen}
    groups = [f"  {group:16}{', '.join(of)}" for group, of in tasks.groups().items() if set(of) <= names]
    shown = Table(["task", "rows", "category", "verifier", "data set", "here and now"], rows, left=(0, 2, 3, 4, 5))
    return [shown, *(["", "groups, to be named like a task:", *groups] if groups else [])]


def check(task: Task, source: Path | None, num_prompts: int, allow_unsandboxed_code: bool = False) -> tuple[int, str]:
    """(exit code, what to say) of a task whose own gold answers go through its verifier."""
    from divmon.grading.grader import judge

    try:
        prompts = task.probe(num_prompts, source=source).prompts
    except (OSError, ValueError) as error:
        return PARTLY, str(error).splitlines()[0]
    if task.verifier is None or task.solution is None:
        why = "nothing grades it" if task.verifier is None else f"no gold answers to try on {task.verifier}"
        return OK, f"{len(prompts):,} rows read; {why}"
    began = time.perf_counter()
    asked = [prompt for prompt in prompts if prompt.gold or task.gold is None]
    solutions = [task.solution(prompt.row or {}) for prompt in asked]
    verdicts = judge(task.verifier, solutions, asked, allow_unsandboxed_code=allow_unsandboxed_code)
    passed = sum(verdict.correct is True for verdict in verdicts)
    others = [(prompt, v) for prompt, v in zip(asked, verdicts, strict=True) if v.correct is not True]
    lines = [f"{passed:,} of {len(asked):,} gold answers pass {task.verifier} ({time.perf_counter() - began:.1f} s)"]
    lines += [
        f"  {prompt.id}: {'wrong' if v.correct is False else 'ungradable'}: {v.reason}" for prompt, v in others[:SHOWN]
    ]
    if len(others) > SHOWN:
        lines.append(f"  and {len(others) - SHOWN:,} more")
    wrong = any(verdict.correct is False for verdict in verdicts)
    return WRONG if wrong else PARTLY if others else OK, "\n".join(lines)


def _chosen(names: Sequence[str]) -> list[Task]:
    wanted = names or [*tasks.PAPER, *(name for name in tasks.available() if name not in tasks.PAPER)]
    members = [member for name in wanted for member in tasks.groups().get(name, [name])]
    return [tasks.load(name) for name in dict.fromkeys(members)]
