"""TRL's own log of completions (log_completions=True) -> groups: rollouts of runs that nobody watched.

    output_dir/completions/completions_00010.parquet    the last generation batch before step 10 was logged

The same rows in another format of files (JSONL, CSV, ..., one a step or all in one) are read too.

The files hold texts, rewards and advantages, but neither token ids nor how a completion ended. They are written at
every log, also at evaluation's, which overwrites the same step's file with evaluation's completions.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.prompts.rows.files import is_file_of_rows, read_rows
from divmon.training.rollouts.groups import GOLD_COLUMNS, Group

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("step", "prompt", "completion")
OTHER_NAMES = {"global_step": "step", "question": "prompt", "prompts": "prompt"} | dict.fromkeys(
    ("completions", "response", "generation", "output"), "completion"
)
"""Of the same columns in files that are not TRL's."""
NOT_REWARDS = ("step", "prompt", "completion", "advantage", "advantages")


@dataclass(frozen=True)
class CompletionsLog:
    """What a folder of completions holds; texts are read a step at a time, as those of a whole run may be large."""

    files: dict[int, Path]
    """By step, those of training's batches."""
    names: list[str]
    """Of the reward functions."""
    num_generations: int
    left_out: dict[int, str] = field(default_factory=dict)
    """Step -> why it is not among the files."""

    @property
    def steps(self) -> list[int]:
        return list(self.files)

    def groups(self, step: int) -> list[Group]:
        """The groups that were logged at a step."""
        return _groups(_of_step(_read(self.files[step]), self.files[step], step), self.num_generations, self.names)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a file once it was looked at."""

    file: Path
    runs: list[int]
    """How often each prompt stands in a row."""
    columns: list[str]
    numbers: list[str]
    """The columns of numbers that may be rewards."""
    digest: bytes
    """Of prompts and completions."""


def read_completions(
    output_dir: str | os.PathLike[str], num_generations: int | None = None, *, rewards: Sequence[str] | None = None
) -> CompletionsLog:
    """Looks through the completions of a run.

    Left out, with the reason: what cannot be read, what evaluation overwrote (where a checkpoint's `trainer_state.json`
    tells when it ran), a batch that was logged before, and files whose prompts do not come in groups.

    Args:
        output_dir: of the run, its folder of completions, or one file with all steps.
        num_generations: completions of a prompt; where None, how often prompts mostly stand in a row.
        rewards: columns that are rewards; all that hold numbers where None, those of whole numbers but for reference
            answers; a column of numbers that a reward function logged beside its reward is among them.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: none of them can be used, a column is not there, or the size of groups cannot be told.
    """
    files = _files(Path(output_dir))
    seen, left_out = _look(files)
    evaluated = _evaluated(files[0].parent.parent) if _step_of(files[0]) is not None else set()
    size = num_generations or _size([seen[step].runs for step in seen.keys() - evaluated])
    names = _rewards(seen, rewards)
    used: dict[int, Path] = {}
    before = b""
    for step, one in seen.items():
        lengths = sorted(set(one.runs))
        if step in evaluated:
            left_out[step] = "evaluation ran at this step and overwrote the completions of training"
        elif one.digest == before:
            left_out[step] = "it holds the batch of the file before it again"
        elif any(length % size for length in lengths):
            left_out[step] = f"its prompts stand {', '.join(map(str, lengths))} times in a row, not {size}"
        else:
            used[step] = one.file
        before = one.digest
    if not used:
        step, reason = next(iter(left_out.items()))
        raise ValueError(f"no file of {files[0].parent} can be used; of step {step}: {reason}")
    return CompletionsLog(used, names, size, left_out)


def _files(output_dir: Path) -> list[Path]:
    if output_dir.is_file():
        return [output_dir]
    folders = [output_dir, output_dir / "completions"]
    there = [file for folder in folders for file in sorted(folder.glob("completions_*"))]
    files = [file for file in there if _step_of(file) is not None and is_file_of_rows(file.name)]
    if not files:
        raise FileNotFoundError(
            f"no completions_*.parquet in {' or '.join(map(str, folders))}; TRL's GRPOTrainer and RLOOTrainer write"
            " them with log_completions=True. Files of other formats are read under the same names"
            f" (completions_00010.jsonl), or one file with the columns {', '.join(COLUMNS)}"
        )
    return files


def _step_of(file: Path) -> int | None:
    """The step that a file's name says; None of a file that holds several."""
    named = re.fullmatch(r"completions_(\d+)", file.name.partition(".")[0])
    return int(named[1]) if named else None


def _of_step(table: pd.DataFrame, file: Path, step: int) -> pd.DataFrame:
    return table if _step_of(file) is not None else table[table["step"] == step]


def _look(files: Sequence[Path]) -> tuple[dict[int, _Seen], dict[int, str]]:
    """By step, what those hold that can be read, and why the others cannot.

    Raises:
        ValueError: none can be read.
    """
    seen: dict[int, _Seen] = {}
    left_out: dict[int, str] = {}
    for file in files:
        named = _step_of(file)
        try:
            table = _read(file)
        except Exception as error:  # a half-written file may fail anywhere in its reader
            left_out[named or 0] = f"{file.name} cannot be read: {type(error).__name__}: {error}"
            continue
        steps = sorted(set(table["step"])) if named is None else [named]
        seen |= {int(step): _looked_at(file, _of_step(table, file, step)) for step in steps}
    if not seen:
        raise ValueError(f"no file of {files[0].parent} can be used; {next(iter(left_out.values()))}")
    return seen, left_out


def _looked_at(file: Path, table: pd.DataFrame) -> _Seen:
    prompts = table["prompt"].tolist()
    return _Seen(
        file,
        runs=[len(list(same)) for _, same in itertools.groupby(prompts)],
        columns=list(table),
        numbers=[name for name in table if _is_reward(name, table[name])],
        digest=hashlib.blake2b(repr([prompts, table["completion"].tolist()]).encode()).digest(),
    )


def _is_reward(name: str, column: pd.Series) -> bool:
    """Whether a column may hold rewards: numbers, whole ones and true or false too, that are no reference answers."""
    if name in NOT_REWARDS or column.dtype.kind not in "fiub":
        return False
    return column.dtype.kind == "f" or name not in GOLD_COLUMNS


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    is_parquet = file.suffix == ".parquet"  # whose types of columns pandas keeps
    table = pd.read_parquet(file) if is_parquet else pd.DataFrame(list(read_rows(file))).rename(columns=OTHER_NAMES)
    missing = [name for name in COLUMNS if name not in table]
    if missing or table.empty:
        raise ValueError(f"expected rows with the columns {', '.join(COLUMNS)}, got {', '.join(map(str, table))}")
    if not is_parquet:
        for name in table.columns.difference(["prompt", "completion", "text"]):
            with contextlib.suppress(ValueError, TypeError):  # a table of text has its numbers as text
                table[name] = pd.to_numeric(table[name])
    for name in ("prompt", "completion"):
        # As objects: a column of texts would turn null into NaN.
        table[name] = pd.Series([_plain(value) for value in table[name]], table.index, dtype=object)
    return table


def _plain(value: Any) -> Any:
    """Messages as lists of dictionaries; Arrow fills the keys that other messages have with None."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):  # pandas' null among texts
        return None
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


def _size(runs: Sequence[list[int]]) -> int:
    counts = Counter(itertools.chain.from_iterable(runs))
    size = max(counts, key=lambda run: (counts[run], -run), default=1)
    if size == 1:
        raise ValueError(
            "cannot tell the size of groups: prompts do not stand in a row; give num_generations (--num-generations)"
        )
    return size


def _rewards(seen: Mapping[int, _Seen], rewards: Sequence[str] | None) -> list[str]:
    first = next(iter(seen.values()))
    chosen = first.numbers if rewards is None else list(rewards)
    for step, one in seen.items():
        missing = [name for name in chosen if name not in one.columns]
        if missing:
            raise ValueError(
                f"step {step} has no column {missing[0]!r}; columns of numbers are {', '.join(first.numbers)}"
            )
    if not chosen:
        raise ValueError(f"no column of rewards: expected one of numbers, got {', '.join(first.columns)}")
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
