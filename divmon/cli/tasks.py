"""`divmon tasks`: which tasks there are, where their rows are, and whether their gold answers pass their verifiers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from divmon.prompts import tasks
from divmon.prompts.tasks import Task

OK, WRONG, NOTHING, PARTLY = 0, 1, 2, 3
SHOWN = 5
"""Gold answers that did not pass, listed for each task."""

_DESCRIPTION = """Lists the tasks: rows upstream, category, verifier, data set, and whether the data can be had here and
now (in the package, in DIR, in the cache of the datasets library, or on the hub)."""

_EPILOG = """exit code: 0 all is well; 1 a gold answer did not pass; 2 wrong usage; 3 with --check, some rows could not
be had or some gold answers not judged, each named with its reason."""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(argv)
    try:
        chosen = _chosen(given.names)
        if given.data and not given.data.is_dir():
            raise ValueError(f"--data: there is no folder {str(given.data)!r}; expected one with <task>.jsonl files")
    except ValueError as error:
        print(f"divmon tasks: {error}", file=sys.stderr)
        return NOTHING
    from divmon.prompts.tasks._reach import reach

    there = reach(chosen, given.data)
    if not given.check:
        print(table(chosen, there))
        return OK
    worst = OK
    for task in chosen:
        whether, where = there[task.name]
        source = Path(where) if given.data and where == str(given.data / f"{task.name}.jsonl") else None
        if whether:
            code, line = check(task, source, given.num_prompts, given.allow_unsandboxed_code)
        else:
            code, line = PARTLY, where
        print(f"{task.name:16}{line}")
        worst = worst if worst == WRONG else WRONG if code == WRONG else max(worst, code)
    return worst


def table(chosen: Sequence[Task], there: dict[str, tuple[bool, str]]) -> str:
    """One line a task, and one for each group."""
    sources = {task.name: " ".join(filter(None, (task.dataset or "package", task.subset))) for task in chosen}
    width = max(map(len, sources.values())) + 2
    lines = [f"{'task':16}{'rows':>7}  {'category':15}{'verifier':14}{'data set':{width}}here and now"]
    for task in chosen:
        whether, where = there[task.name]
        lines.append(
            f"{task.name:16}{task.rows:>7,}  {task.category:15}{task.verifier or '-':14}{sources[task.name]:{width}}"
            f"{'yes' if whether else 'no'}, {where}"
        )
    names = {task.name for task in chosen}
    groups = [f"  {group:16}{', '.join(of)}" for group, of in tasks.groups().items() if set(of) <= names]
    return "\n".join(lines + (["", "groups, to be named like a task:", *groups] if groups else []))


def check(task: Task, source: Path | None, num_prompts: int, allow_unsandboxed_code: bool = False) -> tuple[int, str]:
    """(exit code, what to say) of a task whose own gold answers go through its verifier.

    Args:
        source: a file of its rows; None for the package's, the cache's or the hub's.
        num_prompts: rows at most.
    """
    from divmon.grading.grader import judge

    try:
        prompts = task.probe(num_prompts, source=source).prompts
    except (OSError, ValueError) as error:
        return PARTLY, str(error).splitlines()[0]
    if task.verifier is None or task.solution is None:
        why = "nothing judges it" if task.verifier is None else f"no gold answers to try on {task.verifier}"
        return OK, f"{len(prompts):,} rows read; {why}"
    began = time.perf_counter()
    asked = [prompt for prompt in prompts if prompt.gold or task.gold is None]
    solutions = [task.solution(prompt.row or {}) for prompt in asked]
    verdicts = judge(task.verifier, solutions, asked, allow_unsandboxed_code=allow_unsandboxed_code)
    passed = sum(verdict.correct is True for verdict in verdicts)
    others = [(prompt, v) for prompt, v in zip(asked, verdicts, strict=True) if v.correct is not True]
    lines = [f"{passed:,} of {len(asked):,} gold answers pass {task.verifier} ({time.perf_counter() - began:.1f} s)"]
    lines += [
        f"  {prompt.id}: {'wrong' if v.correct is False else 'not judged'}: {v.reason}" for prompt, v in others[:SHOWN]
    ]
    if len(others) > SHOWN:
        lines.append(f"  and {len(others) - SHOWN:,} more")
    wrong = any(verdict.correct is False for verdict in verdicts)
    return WRONG if wrong else PARTLY if others else OK, "\n".join(lines)


def _chosen(names: Sequence[str]) -> list[Task]:
    """The tasks named, one at a time or by their group; all where none is."""
    wanted = names or [*tasks.PAPER, *(name for name in tasks.available() if name not in tasks.PAPER)]
    members = [member for name in wanted for member in tasks.groups().get(name, [name])]
    return [tasks.load(name) for name in dict.fromkeys(members)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="divmon tasks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="tasks or groups; all of them if not told")
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="a folder with <task>.jsonl files in the data sets' schemas",
    )
    add("--check", action="store_true", help="run each task's gold answers through its verifier")
    add("--num-prompts", type=int, default=10**9, metavar="N", help="with --check, rows of each task (all)")
    add("--allow-unsandboxed-code", action="store_true", help="run gold programs without a sandbox, if there is none")
    return parser
