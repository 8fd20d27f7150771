"""`divmon replay RECIPE`: trains the stages of a lineage in order with the monitor on, and goes on where it stopped.

<out>/<recipe>/_divmon        one run directory for the whole line: steps count on from stage to stage
<out>/<recipe>/<stage>        the trainer's output_dir; <stage>/final is the model it ends with
<out>/<recipe>/replay.json    what is done, and with which settings
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from divmon.cli.command import argument, command, flag
from divmon.lineages.recipes import Recipe, Stage, load, names
from divmon.lineages.recipes.file import RecipeError
from divmon.lineages.recipes.plan import accelerate_file, accelerate_settings, plan
from divmon.lineages.replay.lineage import Lineage, ReplayError, is_main
from divmon.lineages.replay.run import run
from divmon.loggers import say
from divmon.loggers.terminal import show

_EPILOG = f"""recipes that come with divmon: {", ".join(names())}

examples:
  divmon replay think --dry-run
  divmon replay think --stage dpo --set dpo.start=allenai/Olmo-3-7B-Think-SFT
  divmon replay my_recipe.yaml --set sft.accelerate=my_config.yaml --set sft.data.path=rows.jsonl
  divmon replay --checkpoints --help        measures published checkpoints in place of training

A replay that was stopped goes on at its last whole checkpoint when the same command is given again."""


@dataclass
class Flags:
    """Trains the stages of a published lineage in order, with the monitor on."""

    recipe: str = argument("RECIPE")
    """One that comes with divmon, or a YAML file."""
    stage: list[str] = flag([], metavar="NAME")
    """Only this stage; may be given again, or a,b."""
    set: list[str] = flag([], metavar="KEY=VALUE")
    """Change the recipe: sft.args.learning_rate=1e-5."""
    scale: Literal["full", "miniature"] = "full"
    """Size of models and data."""
    out: str = flag("replays", metavar="DIR")
    """Folder for all lineages."""
    seed: int | None = None
    """Seed of training, in place of the recipe's."""
    dry_run: bool = False
    """Check the recipe and print the plan, nothing else."""


@command("divmon replay", epilog=_EPILOG, fails=(ReplayError, RecipeError))
def main(given: Flags) -> int:
    """Runs the command; 0 when it is through, 1 when it cannot go on, 2 when the recipe is wrong."""
    from divmon.lineages.recipes.checks import check

    chosen = [name for names in given.stage for name in names.split(",")]
    recipe = load(given.recipe, scale=given.scale, sets=given.set)
    check(recipe, chosen)
    if given.dry_run:
        show(plan(recipe, chosen), "\nto run", *(f"  {line}" for line in _commands(recipe, chosen, given)))
        return 0
    try:
        _train(recipe, chosen, given)
    except (ReplayError, RecipeError) as error:
        show(f"divmon replay: {error}", file=sys.stderr)
        return 1
    return 0


def _train(recipe: Recipe, chosen: Sequence[str], given: Flags) -> None:
    lineage = Lineage(recipe, Path(given.out), given.seed)
    for name in chosen or recipe.stages:
        stage = recipe.stages[name]
        if stage.recipe != recipe.name or lineage.is_done(stage):
            run(lineage, stage)
            continue
        if LAUNCHED in os.environ and "WORLD_SIZE" not in os.environ:
            raise ReplayError(
                f"accelerate started one process and not those of {accelerate_file(stage)} (on CPUs alone it does"
                f" not start several); for one process: --set {name}.accelerate=null"
            )
        if _is_launched() or int(accelerate_settings(stage)["num_processes"]) == 1:
            run(lineage, stage)
        else:
            _launch(stage, given)
    if is_main() and not _is_launched():
        from divmon.lineages.replay.timetable import timetable

        say(f"divmon replay: {recipe.name} is through; its time\n{timetable(lineage)}")


LAUNCHED = "DIVMON_LAUNCHED"
"""Set for the processes of a stage, so that none of them launches others, whatever its launcher made of its config."""


def _is_launched() -> bool:
    return "WORLD_SIZE" in os.environ or LAUNCHED in os.environ


def _again(stage: Stage, given: Flags) -> list[str]:
    line = ["replay", str(given.recipe), "--stage", stage.name, "--out", str(given.out), "--scale", given.scale]
    for value in given.set:
        line += ["--set", value]
    return line + (["--seed", str(given.seed)] if given.seed is not None else [])


def _launcher(stage: Stage) -> list[str]:
    return ["accelerate", "launch", "--config_file", str(accelerate_file(stage))]


def _commands(recipe: Recipe, chosen: Sequence[str], given: Flags) -> list[str]:
    lines = []
    for name in chosen or recipe.stages:
        stage = recipe.stages[name]
        settings = accelerate_settings(stage)
        if stage.args.get("use_vllm") and stage.args.get("vllm_mode") == "server":
            lines.append("trl vllm-serve --model MODEL          on the machines that generate, before:")
        if settings["num_processes"] == 1 or stage.recipe != recipe.name:
            lines.append(shlex.join(["divmon", *_again(stage, given)]))
            continue
        machines = settings.get("num_machines", 1)
        each = f"   on each of {machines} machines, I = 0 to {machines - 1}" if machines > 1 else ""
        where = " --machine_rank I --main_process_ip IP --main_process_port PORT" if machines > 1 else ""
        lines.append(
            shlex.join(_launcher(stage)) + where + " " + shlex.join(["-m", "divmon", *_again(stage, given)]) + each
        )
    return lines


def _launch(stage: Stage, given: Flags) -> None:
    settings = accelerate_settings(stage)
    command = [*_launcher(stage), "-m", "divmon", *_again(stage, given)]
    if settings.get("num_machines", 1) > 1:
        raise ReplayError(
            f"stage {stage.name!r} runs on {settings['num_machines']} machines, by {accelerate_file(stage)}: start it"
            f" on each of them as `divmon replay {given.recipe} --stage {stage.name} --dry-run` says, or name a config"
            f" for this machine: --set {stage.name}.accelerate=FILE (null for one process)"
        )
    say(f"divmon replay: {shlex.join(command)}")
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *command[1:]]
    done = subprocess.run(accelerate, env={**os.environ, LAUNCHED: "1"})
    if done.returncode:
        raise ReplayError(
            f"stage {stage.name!r} ended with exit code {done.returncode}; the same command goes on with it"
        )
