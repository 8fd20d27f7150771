"""Runs one stage of a replay: trains it, or measures its model if another recipe trains it."""

from __future__ import annotations

import os
import time

from divmon.lineages.recipes import Stage, load
from divmon.lineages.recipes.plan import steps
from divmon.lineages.replay.lineage import Lineage, ReplayError, is_main
from divmon.lineages.replay.stage import measure, train
from divmon.loggers import say
from divmon.storage.reader import list_steps


def run(lineage: Lineage, stage: Stage) -> None:
    """Trains a stage, or resumes it; of a reused stage the base and the final model are measured. Raises ReplayError:
    the model that it starts from does not exist, or it was started with other settings."""
    if stage.recipe != lineage.recipe.name:
        _take_over(lineage, stage)
    elif lineage.is_done(stage):
        say(f"divmon replay: {lineage.recipe.name}/{stage.name} is done, in {lineage.final(stage)}")
    else:
        lineage.begin(stage)
        began = time.perf_counter()
        taken = train(lineage, stage)
        if is_main():
            lineage.record(stage, steps=taken, finished=True, seconds=time.perf_counter() - began)


def _take_over(lineage: Lineage, stage: Stage) -> None:
    """Measures the base and the final model of another recipe's stage, so that this lineage has one reference."""
    if lineage.is_done(stage):
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ReplayError(f"stage {stage.name!r} is measured in one process, without a launcher: --stage {stage.name}")
    theirs = load(stage.file.path, scale=lineage.recipe.scale)
    other = Lineage(theirs, lineage.out, lineage.seed)
    original = theirs.stages[str(stage.key[-1])]
    if lineage.recipe.scale != "full" and not other.is_done(original):
        run(other, original)
    if other.is_done(original):
        model, taken = str(other.final(original)), other.record_of(original)["steps"]
    elif stage.produces is None:
        raise ReplayError(f"stage {stage.name!r} is {theirs.name}/{original.name}, which is not in {lineage.out}")
    else:
        model, taken = stage.produces, steps(stage).value or 0
    began = time.perf_counter()
    there = list_steps(lineage.run_directory)
    for step, measured, name in ((0, lineage.recipe.base, "base"), (taken, model, stage.name)):
        if step not in there:
            measure(lineage, stage, measured, step, name)
    lineage.record(stage, steps=taken, model=model, finished=True, seconds=time.perf_counter() - began)
