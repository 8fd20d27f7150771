"""PROMPTS: one file per task, and the folder is the registry.

A task file defines one function of the file's name that returns a `Task`: where its rows are, and how a row becomes a
prompt. To add one, copy gsm8k.py.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.prompts.tasks._rows import Row, draw, read_rows
from divmon.types import Category, Probe, Prompt

PAPER = (
    "tldr", "cnn_dailymail", "xsum", "humaneval", "mbpp", "cruxeval", "gsm8k", "math_algebra", "math_geometry",
    "truthfulqa", "alpaca", "ifeval", "writingprompts", "prism", "wildbench",
)  # fmt: skip
"""The paper's fifteen tasks, in the order of its table."""

OTHER_FORMS = (
    "a task on a local file ('gsm8k@path/to/file.jsonl'), a JSONL file of {\"prompt\": ...}, a list of strings, a"
    " datasets.Dataset, 'eval' for the trainer's own eval prompts, or a Probe"
)


@dataclass(frozen=True)
class Task:
    """A data set, how one of its rows becomes a prompt, and the decoding limits."""

    name: str
    prompt: Callable[[Row], str]
    """Row -> the prompt."""
    dataset: str = ""
    """Hub id of the data set; empty where the rows ship inside the package."""
    subset: str | None = None
    split: str = "test"
    revision: str | None = None
    """Branch of the hub's repository, where the rows are not on its main one."""
    rows: int = 0
    """Rows upstream, before `keep`."""
    keep: Callable[[Row], bool] | None = None
    """Which rows are used; all where None."""
    file: Path | None = None
    """The file inside the package, in place of a hub id."""
    gold: Callable[[Row], str | None] | None = None
    """Row -> the reference answer, for the verifier."""
    solution: Callable[[Row], str] | None = None
    """Row -> a completion that the verifier must accept, made of the row's own reference answer."""
    id_field: str | None = None
    """Upstream field that identifies a row; the row's index where there is none."""
    category: Category = "other"
    category_field: str | None = None
    """Field that holds the category, where it differs between rows."""
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Strings that end the answer to a plain prompt. In chat there are none: the end-of-turn token ends an answer, and
    the paper's harness uses none there."""
    verifier: str | None = None

    def probe(self, num_prompts: int = 64, seed: int = 0, source: str | Path | None = None) -> Probe:
        """A fixed subset of the task's rows, from `source` (a local file in the data set's schema) or from the hub.

        Args:
            num_prompts: how many prompts; all rows where there are fewer.
            seed: of the subset. It has a generator of its own: the global ones are not touched.
            source: path of a .jsonl, .json, .parquet or .csv file, or of a folder with a <task>.jsonl; None loads
                `dataset` from the hub (or its cache).

        Raises:
            FileNotFoundError: there is no file `source`.
            ValueError: the rows cannot be had, or one lacks a field; the message says what was tried, or which one.
        """
        path = source or self.file
        if path is not None:
            if Path(path).is_dir():
                path = Path(path) / f"{self.name}.jsonl"
            # A file is read whole, so that a bad row is named whatever the seed draws.
            read = enumerate(read_rows(path))
            prompts = [self.read(row, index, where) for index, (where, row) in read if self._keeps(row, where)]
            drawn = [prompts[index] for index in draw(len(prompts), num_prompts, seed)]
            origin = str(path) if source else "package"
        else:
            rows = self._load_from_hub()
            origin = f"{self.dataset} ({', '.join(filter(None, (self.subset, self.split)))})"
            of_all = range(len(rows))
            used = [i for i in of_all if self._keeps(rows[i], f"{origin}, row {i}")] if self.keep else of_all
            indices = [used[index] for index in draw(len(used), num_prompts, seed)]
            drawn = [self.read(rows[index], index, f"{origin}, row {index}") for index in indices]
        if not drawn:
            raise ValueError(f"{origin}: no row is left for the task '{self.name}', which keeps only some of its rows")
        return Probe(
            self.name, tuple(drawn), self.max_new_tokens, self.stop, self.verifier, source=origin, chat_stop=()
        )

    def read(self, row: Row, index: int, where: str) -> Prompt:
        """One row as a prompt. Raises ValueError: the row lacks a field, or its reference answer cannot be read."""
        with self._naming(row, where):
            prompt_id = row[self.id_field] if self.id_field else index
            category = row[self.category_field] if self.category_field else self.category
            gold = self.gold(row) if self.gold else None
            return Prompt(str(prompt_id), self.prompt(row), gold, row, category)

    def _keeps(self, row: Row, where: str) -> bool:
        with self._naming(row, where):
            return self.keep is None or self.keep(row)

    @contextmanager
    def _naming(self, row: Row, where: str) -> Iterator[None]:
        """Names the row in what its reading raises."""
        try:
            yield
        except KeyError as error:
            raise ValueError(
                f"{where}: task '{self.name}' needs the field {error.args[0]!r}; the fields there are"
                f" {', '.join(sorted(row))}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def _load_from_hub(self) -> Any:
        import datasets

        try:
            return datasets.load_dataset(self.dataset, self.subset, split=self.split, revision=self.revision)
        except Exception as error:  # the hub fails in many ways, and each has the same remedies
            branch = f", revision={self.revision!r}" if self.revision else ""
            call = f"datasets.load_dataset({self.dataset!r}, {self.subset!r}, split={self.split!r}{branch})"
            raise ValueError(
                f"no rows for the task '{self.name}'. Tried {call}: {type(error).__name__}: {error}\n"
                f"Remedies: give a local file in the same schema, '{self.name}@path/to/file.jsonl' (or .json, .parquet,"
                " .csv); or run that call once where there is network (HF_HUB_OFFLINE unset), which fills the cache;"
                " or measure 'starter', whose prompts ship with divmon."
            ) from error


def available() -> list[str]:
    """Names of the tasks there are: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


@functools.cache
def groups() -> dict[str, list[str]]:
    """Names that stand for several tasks: "paper", "verifiable" (those of the paper that are graded), each category.

    >>> groups()["code"]
    ['cruxeval', 'humaneval', 'mbpp']
    """
    members = {"paper": list(PAPER), "verifiable": [name for name in PAPER if load(name).verifier]}
    for task in map(load, available()):
        if task.category != "other":
            members.setdefault(task.category, []).append(task.name)
    return members


def load(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: there is none; the message lists those there are, and the other forms a probe can take.

    >>> load("gsm8k").dataset
    'openai/gsm8k'
    """
    if name not in available():
        raise ValueError(
            f"no task named {name!r}; there are {', '.join(available())}; the groups {', '.join(groups())}; or give"
            f" {OTHER_FORMS}"
        )
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)()
