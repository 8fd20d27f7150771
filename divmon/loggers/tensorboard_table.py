"""TensorBoard's table of hyperparameters: what a person compares runs by, beside what each came to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from divmon.types import Snapshot

OF_TRAINING = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_steps", "num_train_epochs"),
    *("lr_scheduler_type", "weight_decay", "seed", "beta", "loss_type", "num_generations"),
)
"""Arguments of a trainer that are shown where it has them."""


def of_training(args: Any, model: Any = None) -> dict[str, Any]:
    """The hyperparameters of a trainer by name."""
    there = {name: getattr(args, name, None) for name in OF_TRAINING}
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    return {name: value for name, value in {"model": name, **there}.items() if value not in (None, "")}


def hyperparameters(named: Mapping[str, Any], snapshot: Snapshot) -> dict[str, float | str]:
    """A row of the table, what the run was given and the tasks that it is measured on; files by their names alone."""
    tasks = ", ".join(dict.fromkeys(score.task for score in snapshot.scores))
    row: dict[str, float | str] = {}
    for name, value in {**named, "tasks": tasks}.items():
        plain = value if isinstance(value, int | float | str) else str(getattr(value, "value", value))
        row[_free(_file_name(name), row)] = _file_name(plain) if isinstance(plain, str) else plain
    return row


def _file_name(text: str) -> str:
    """A path without its folders, also behind `data/`; a hub id ("org/name") stays."""
    head, path = ("data/", text.removeprefix("data/")) if text.startswith("data/") else ("", text)
    is_file = os.sep in path and (os.path.isabs(path) or path.startswith((".", "~")) or Path(path).exists())
    return head + (Path(path).name or path if is_file else path)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, numbered where two files of one name lie in two folders."""
    count = 2
    free = name
    while free in taken:
        free, count = f"{name} ({count})", count + 1
    return free
