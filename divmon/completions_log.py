"""TRL's own log of completions (log_completions=True) -> groups: rollouts of runs that nobody watched.

    output_dir/completions/completions_00010.parquet    the last generation batch before step 10 was logged

The files hold texts, rewards and advantages, but neither token ids nor how a completion ended. They are written at
every log, also at evaluation's, which overwrites the same step's file with evaluation's completions.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.groups import Group

if TYPE_CHECKING:
    import pandas as pd

NOT_REWARDS = ("step", "prompt", "completion", "advantage", "advantages")


@dataclass(frozen=True)
class CompletionsLog:
    """What a folder of completions holds."""

    windows: dict[int, list[Group]]
    """By step."""
    names: list[str]
    """Of the reward functions."""
    num_generations: int
    left_out: dict[int, str] = field(default_factory=dict)
    """Step -> why it is not among the windows."""


def read_completions(
    output_dir: str | os.PathLike[str], num_generations: int | None = None, *, rewards: Sequence[str] | None = None
) -> CompletionsLog:
    """The groups of each logged step.

    Left out, with the reason: what cannot be read, what evaluation overwrote (where a checkpoint's `trainer_state.json`
    tells when it ran), a batch that was logged before, and files whose prompts do not come in groups.

    Args:
        output_dir: of the run, or its folder of completions.
        num_generations: completions of a prompt; where None, how often prompts mostly stand in a row.
        rewards: columns that are rewards; all that hold numbers where None, a column of numbers that a reward function
            logged beside its reward included.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: none of them can be used, a column is not there, or the size of groups cannot be told.
    """
    files = _files(Path(output_dir))
    tables, left_out = _tables(files)
    evaluated = _evaluated(files[0].parent.parent)
    runs = {step: _runs(table) for step, table in tables.items()}
    size = num_generations or _size([runs[step] for step in runs.keys() - evaluated])
    names = _rewards(tables, rewards)
    windows: dict[int, list[Group]] = {}
    before: list[Any] = []
    for step, table in tables.items():
        drawn = [table["prompt"].tolist(), table["completion"].tolist()]
        lengths = sorted(set(runs[step]))
        if step in evaluated:
            left_out[step] = "evaluation ran at this step and overwrote the completions of training"
        elif drawn == before:
            left_out[step] = "it holds the batch of the file before it again"
        elif any(length % size for length in lengths):
            left_out[step] = f"its prompts stand {', '.join(map(str, lengths))} times in a row, not {size}"
        else:
            windows[step] = _groups(table, size, names)
        before = drawn
    if not windows:
        step, reason = next(iter(left_out.items()))
        raise ValueError(f"no file of {files[0].parent} can be used; of step {step}: {reason}")
    return CompletionsLog(windows, names, size, left_out)


def _files(output_dir: Path) -> list[Path]:
    folders = [output_dir, output_dir / "completions"]
    files = [file for folder in folders for file in sorted(folder.glob("completions_*.parquet"))]
    if not files:
        raise FileNotFoundError(
            f"no completions_*.parquet in {' or '.join(map(str, folders))}; TRL's GRPOTrainer and RLOOTrainer write"
            " them with log_completions=True"
        )
    return files


def _tables(files: Sequence[Path]) -> tuple[dict[int, pd.DataFrame], dict[int, str]]:
    """By step, those that can be read and why the others cannot.

    Raises:
        ValueError: none can be read.
    """
    tables, left_out = {}, {}
    for file in files:
        step = int(file.stem.rpartition("_")[2])
        try:
            tables[step] = _read(file)
        except Exception as error:  # a half-written file may fail anywhere in its reader
            left_out[step] = f"{file.name} cannot be read: {type(error).__name__}: {error}"
    if not tables:
        raise ValueError(f"no file of {files[0].parent} can be used; {next(iter(left_out.values()))}")
    return tables, left_out


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    table = pd.read_parquet(file)
    missing = [name for name in ("step", "prompt", "completion") if name not in table]
    if missing or table.empty:
        raise ValueError(f"expected rows with the columns step, prompt and completion, got {', '.join(table)}")
    for name in ("prompt", "completion"):
        table[name] = [_plain(value) for value in table[name]]
    return table


def _plain(value: Any) -> Any:
    """Messages as lists of dictionaries; Arrow fills the keys that other messages have with None."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if hasattr(value, "__iter__") else value


def _evaluated(output_dir: Path) -> set[int]:
    """Steps at which the run evaluated, as far as it has told."""
    states = [*output_dir.glob("trainer_state.json"), *output_dir.glob("checkpoint-*/trainer_state.json")]
    steps = set()
    for file in states:
        try:
            rows = json.loads(file.read_bytes())["log_history"]
            steps |= {int(row["step"]) for row in rows if any(key.startswith("eval_") for key in row)}
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ):  # half written, or deleted meanwhile: it tells nothing
            continue
    return steps


def _runs(table: pd.DataFrame) -> list[int]:
    """How often each prompt stands in a row."""
    return [len(list(same)) for _, same in itertools.groupby(table["prompt"].tolist())]


def _size(runs: Sequence[list[int]]) -> int:
    counts = Counter(itertools.chain.from_iterable(runs))
    size = max(counts, key=lambda run: (counts[run], -run), default=1)
    if size == 1:
        raise ValueError(
            "cannot tell the size of groups: prompts do not stand in a row; give num_generations (--num-generations)"
        )
    return size


def _rewards(tables: Mapping[int, pd.DataFrame], rewards: Sequence[str] | None) -> list[str]:
    first = next(iter(tables.values()))
    numbers = [name for name in first if name not in NOT_REWARDS and first[name].dtype.kind == "f"]
    chosen = numbers if rewards is None else list(rewards)
    for step, table in tables.items():
        missing = [name for name in chosen if name not in table]
        if missing:
            raise ValueError(f"step {step} has no column {missing[0]!r}; columns of numbers are {', '.join(numbers)}")
    if not chosen:
        raise ValueError(f"no column of rewards: expected one of numbers, got {', '.join(first)}")
    return chosen


def _groups(table: pd.DataFrame, size: int, names: Sequence[str]) -> list[Group]:
    extra = [name for name in table if name not in (*NOT_REWARDS, *names)]
    groups = []
    for start in range(0, len(table), size):
        rows = table.iloc[start : start + size]
        rewards = [[math.nan if value is None else float(value) for value in row] for row in rows[list(names)].values]
        groups.append(
            Group(
                rows["prompt"].iloc[0],
                rows["completion"].tolist(),
                rewards,
                ["unknown"] * size,
                [None] * size,
                {name: _plain(rows[name].iloc[0]) for name in extra},
            )
        )
    return groups
