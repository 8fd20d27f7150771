"""The folder of a replay: which stages are done, and each stage's start, end and first step."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from divmon.lineages.miniature.lineages import NAME as MINIATURE
from divmon.lineages.recipes import Recipe, Stage
from divmon.lineages.recipes.plan import steps, trl_args
from divmon.loggers import say
from divmon.storage.files import write_whole
from divmon.storage.reader import FOLDER
from divmon.types import plain, strict_json


class ReplayError(RuntimeError):
    """A replay cannot continue; the message says why and what to do."""


class Lineage:
    """The replay of a recipe under `out`, whether started or not."""

    def __init__(self, recipe: Recipe, out: Path, seed: int | None = None) -> None:
        if recipe.base == MINIATURE:
            import torch

            torch.set_num_threads(
                1
            )  # two are slower at this size on shared cores, and sums in one thread repeat bit for bit
            recipe = dataclasses.replace(recipe, base=str(_miniature_base(seed or 0)))
        self.recipe, self.out, self.seed = recipe, out, seed
        self.folder = out / recipe.name
        self.run_directory = self.folder / FOLDER

    def is_done(self, stage: Stage) -> bool:
        if stage.recipe != self.recipe.name:
            return self.record_of(stage).get("finished", False)
        return (self.final(stage) / "config.json").exists() and self.record_of(stage).get("finished", False)

    def final(self, stage: Stage) -> Path:
        """Folder of the stage's final model, whether it exists yet or not."""
        return self.out / stage.recipe / str(stage.key[-1]) / "final"

    def start(self, stage: Stage) -> str:
        """The model that a stage starts from, a hub id or a folder. Raises ReplayError: it is the final model of
        another stage, which does not exist yet."""
        if stage.start == "base":
            return self.recipe.base
        before = self.recipe.stages.get(stage.start)
        if before is None:
            return stage.start
        if self.is_done(before):
            return str(self.record_of(before).get("model", self.final(before)))
        published = f", or start from the published one: --set {stage.name}.start={before.produces}"
        raise ReplayError(
            f"stage {stage.name!r} starts where {before.name!r} ends, which is not in {self.folder}: replay that first"
            f" (--stage {before.name})" + (published if before.produces and self.recipe.scale == "full" else "")
        )

    def first_step(self, stage: Stage) -> int:
        """Steps of the stages before this one: those taken, or those planned for a stage that was skipped."""
        total = 0
        for before in self.recipe.stages.values():
            if before.name == stage.name:
                break
            total += self.record_of(before).get("steps", steps(before).value or 0)
        return total

    def settings(self, stage: Stage) -> dict[str, Any]:
        """Arguments of the stage's TRL config."""
        made = trl_args(stage, str(self.folder / stage.name))
        return made if self.seed is None else {**made, "seed": self.seed, "data_seed": self.seed}

    # -- replay.json

    def begin(self, stage: Stage) -> None:
        """Records the settings of a stage; those of a started stage must not change."""
        start = self.recipe.base if stage.start == "base" else stage.start
        now = plain(self.settings(stage) | {"start": start, "data": stage.data.path})
        before = self.record_of(stage).get("settings")
        begun = list((self.folder / stage.name).glob("checkpoint-*"))
        if before and begun:
            for name in sorted({*before, *now} - {"output_dir", "gradient_accumulation_steps", "logging_dir"}):
                if before.get(name) != now.get(name):
                    raise ReplayError(
                        f"stage {stage.name!r} in {self.folder / stage.name} was begun with {name} ="
                        f" {before.get(name)!r}, now it is {now.get(name)!r}; give another --out, or what it began with"
                    )
        if is_main():
            self.record(stage, settings=now, first_step=self.first_step(stage), finished=False)

    def record_of(self, stage: Stage) -> dict[str, Any]:
        """The record of a stage in replay.json; empty if there is none."""
        return dict(self._records().get("stages", {}).get(stage.name, {}))

    def _records(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "replay.json").read_bytes()))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ReplayError(f"{self.folder / 'replay.json'} is damaged ({error}); give another --out") from None

    def record(self, stage: Stage, **facts: Any) -> None:
        """Adds facts to the record of a stage."""
        whole = {"recipe": self.recipe.name, "file": str(self.recipe.file.path), "scale": self.recipe.scale}
        records = {**self._records(), **whole}
        records.setdefault("stages", {})[stage.name] = {**self.record_of(stage), **facts}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "replay.json", strict_json(plain(records), indent=1))


def _miniature_base(seed: int) -> Path:
    from divmon.lineages.miniature.base import LINEAGES, base_folder, cache_folder, is_cached
    from divmon.loggers.console import progress_bar

    if is_cached(seed, LINEAGES):
        return base_folder(seed, config=LINEAGES)
    say(f"divmon replay: training the miniature's base model, about two minutes; kept in {cache_folder()}")
    try:
        with progress_bar("base model", LINEAGES.steps) as done:
            return base_folder(seed, config=LINEAGES, progress=lambda *_: done(1))
    except OSError as error:
        raise ReplayError(f"the base model cannot be kept in {cache_folder()} ({error}); set DIVMON_CACHE") from None


def is_main() -> bool:
    """Whether this is the main process of the stage."""
    return int(os.environ.get("RANK", "0")) == 0
