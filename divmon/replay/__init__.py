"""`divmon replay RECIPE`: trains the stages of a lineage in order with the monitor on, and goes on where it stopped.

<out>/<recipe>/_divmon        one run directory for the whole line: steps count on from stage to stage
<out>/<recipe>/<stage>        the trainer's output_dir; <stage>/final is the model it ends with
<out>/<recipe>/replay.json    what is done, and with which settings
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divmon.loggers import say
from divmon.miniature.lineages import NAME as MINIATURE
from divmon.plain import plain, strict_json
from divmon.reading import FOLDER, list_steps
from divmon.recipes import Recipe, Scale, Stage, load
from divmon.recipes.file import RecipeError
from divmon.recipes.plan import accelerate_file, accelerate_settings, plan, steps, trl_args

_EPILOG = """examples:
  divmon replay recipes/olmo3/think.yaml --dry-run
  divmon replay recipes/olmo3/think.yaml --stage dpo --set dpo.start=allenai/Olmo-3-7B-Think-SFT
  divmon replay recipes/olmo3/think.yaml --set sft.accelerate=my_config.yaml --set sft.data.path=rows.jsonl
  divmon replay --checkpoints --help        measures published checkpoints in place of training

A replay that was stopped goes on at its last whole checkpoint when the same command is given again."""


class ReplayError(RuntimeError):
    """A replay cannot go on; the message says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when it is through, 1 when it cannot go on, 2 when the recipe is wrong."""
    argv = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] == "--checkpoints" for word in argv):
        from divmon.replay import checkpoints_command as replay_checkpoints_command

        return replay_checkpoints_command.main(argv)
    given = _parser().parse_args(argv)
    chosen = [name for names in given.stage for name in names.split(",")]
    try:
        from divmon.recipes.checks import check

        recipe = load(given.recipe, scale=given.scale, sets=given.set)
        check(recipe, chosen)
        if given.dry_run:
            print(plan(recipe, chosen))
            print("\nto run\n" + "\n".join(f"  {line}" for line in _commands(recipe, chosen, given)))
            return 0
    except RecipeError as error:
        print(f"divmon replay: {error}", file=sys.stderr)
        return 2
    try:
        lineage = Lineage(recipe, Path(given.out), given.seed)
        for name in chosen or recipe.stages:
            stage = recipe.stages[name]
            if stage.recipe != recipe.name or lineage.is_done(stage):
                lineage.run(stage)
                continue
            if LAUNCHED in os.environ and "WORLD_SIZE" not in os.environ:
                raise ReplayError(
                    f"accelerate started one process and not those of {accelerate_file(stage)} (on CPUs alone it does"
                    f" not start several); for one process: --set {name}.accelerate=null"
                )
            if _is_launched() or int(accelerate_settings(stage)["num_processes"]) == 1:
                lineage.run(stage)
            else:
                _launch(stage, given)
    except (ReplayError, RecipeError) as error:
        print(f"divmon replay: {error}", file=sys.stderr)
        return 1
    if _is_main() and not _is_launched():
        from divmon.replay.timetable import timetable

        say(f"divmon replay: {recipe.name} is through; its time\n{timetable(lineage)}")
    return 0


class Lineage:
    """The folder of one recipe's replay: which stages are done, and where their models are."""

    def __init__(self, recipe: Recipe, out: Path, seed: int | None = None) -> None:
        if recipe.base == MINIATURE:
            import torch

            torch.set_num_threads(1)  # at this size two are slower on shared cores, and sums in one repeat bit for bit
            recipe = dataclasses.replace(recipe, base=str(_miniature_base(seed or 0)))
        self.recipe, self.out, self.seed = recipe, out, seed
        self.folder = out / recipe.name
        self.run_directory = self.folder / FOLDER

    def run(self, stage: Stage) -> None:
        """Trains a stage to its end, or goes on with it; a reused one is measured as the start of this line.

        Raises:
            ReplayError: what it starts from is not there, or it was begun with other settings.
        """
        if stage.recipe != self.recipe.name:
            self._take_over(stage)
        elif self.is_done(stage):
            say(f"divmon replay: {self.recipe.name}/{stage.name} is done, in {self.final(stage)}")
        else:
            from divmon.replay.stage import train

            self._begin(stage)
            began = time.perf_counter()
            taken = train(self, stage)
            if _is_main():
                self._record(stage, steps=taken, finished=True, seconds=time.perf_counter() - began)

    def is_done(self, stage: Stage) -> bool:
        if stage.recipe != self.recipe.name:
            return self.record_of(stage).get("finished", False)
        return (self.final(stage) / "config.json").exists() and self.record_of(stage).get("finished", False)

    def final(self, stage: Stage) -> Path:
        """Where the stage's model is, or will be."""
        return self.out / stage.recipe / str(stage.key[-1]) / "final"

    def start(self, stage: Stage) -> str:
        """The model that a stage starts from: a hub id or a folder.

        Raises:
            ReplayError: it is the end of another stage, which is not there yet.
        """
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
        """Steps of the line before this stage: those taken, or for a stage that was left out those planned."""
        total = 0
        for before in self.recipe.stages.values():
            if before.name == stage.name:
                break
            total += self.record_of(before).get("steps", steps(before).value or 0)
        return total

    def settings(self, stage: Stage) -> dict[str, Any]:
        """The arguments of the stage's TRL config."""
        made = trl_args(stage, str(self.folder / stage.name))
        return made if self.seed is None else {**made, "seed": self.seed, "data_seed": self.seed}

    def _take_over(self, stage: Stage) -> None:
        """Another recipe's stage: base and end of it are measured here, so that this line has one reference."""
        from divmon.replay.stage import measure

        if self.is_done(stage):
            return
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ReplayError(
                f"stage {stage.name!r} is measured in one process, without a launcher: --stage {stage.name}"
            )
        theirs = load(stage.file.path, scale=self.recipe.scale)
        other = Lineage(theirs, self.out, self.seed)
        original = theirs.stages[str(stage.key[-1])]
        if other.is_done(original):
            model, taken = str(other.final(original)), other.record_of(original)["steps"]
        elif self.recipe.scale == "full":
            if stage.produces is None:
                raise ReplayError(f"stage {stage.name!r} is {theirs.name}/{original.name}, which is not in {self.out}")
            model, taken = stage.produces, steps(stage).value or 0
        else:
            other.run(original)
            model, taken = str(other.final(original)), other.record_of(original)["steps"]
        began = time.perf_counter()
        there = list_steps(self.run_directory)
        for step, measured, name in ((0, self.recipe.base, "base"), (taken, model, stage.name)):
            if step not in there:
                measure(self, stage, measured, step, name)
        self._record(stage, steps=taken, model=model, finished=True, seconds=time.perf_counter() - began)

    # -- replay.json

    def _begin(self, stage: Stage) -> None:
        """Notes the settings; those of a stage that was begun must be the same."""
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
        if _is_main():
            self._record(stage, settings=now, first_step=self.first_step(stage), finished=False)

    def record_of(self, stage: Stage) -> dict[str, Any]:
        """What replay.json says of a stage; empty where it says nothing."""
        return dict(self._records().get("stages", {}).get(stage.name, {}))

    def _records(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "replay.json").read_bytes()))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ReplayError(f"{self.folder / 'replay.json'} is damaged ({error}); give another --out") from None

    def _record(self, stage: Stage, **facts: Any) -> None:
        whole = {"recipe": self.recipe.name, "file": str(self.recipe.file.path), "scale": self.recipe.scale}
        records = {**self._records(), **whole}
        records.setdefault("stages", {})[stage.name] = {**self.record_of(stage), **facts}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "replay.json.tmp"
        temporary.write_bytes(strict_json(plain(records), indent=1))
        temporary.replace(self.folder / "replay.json")


def _miniature_base(seed: int) -> Path:
    """The folder of the miniature's base model, which is trained where it is not cached."""
    from divmon.loggers.console import progress_bar
    from divmon.miniature.base import LINEAGES, base_folder, cache_folder, is_cached

    if is_cached(seed, LINEAGES):
        return base_folder(seed, config=LINEAGES)
    say(f"divmon replay: training the miniature's base model, about two minutes; kept in {cache_folder()}")
    try:
        with progress_bar("base model", LINEAGES.steps) as done:
            return base_folder(seed, config=LINEAGES, progress=lambda *_: done(1))
    except OSError as error:
        raise ReplayError(f"the base model cannot be kept in {cache_folder()} ({error}); set DIVMON_CACHE") from None


LAUNCHED = "DIVMON_LAUNCHED"
"""Set for the processes of a stage, so that none of them launches others, whatever its launcher made of its config."""


def _is_launched() -> bool:
    """A launcher of several processes started this one."""
    return "WORLD_SIZE" in os.environ or LAUNCHED in os.environ


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _again(stage: Stage, given: argparse.Namespace) -> list[str]:
    """The arguments of this command, for one stage."""
    line = ["replay", str(given.recipe), "--stage", stage.name, "--out", str(given.out), "--scale", given.scale]
    for value in given.set:
        line += ["--set", value]
    return line + (["--seed", str(given.seed)] if given.seed is not None else [])


def _launcher(stage: Stage) -> list[str]:
    return ["accelerate", "launch", "--config_file", str(accelerate_file(stage))]


def _commands(recipe: Recipe, chosen: Sequence[str], given: argparse.Namespace) -> list[str]:
    """What to type for each stage."""
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


def _launch(stage: Stage, given: argparse.Namespace) -> None:
    """Starts the stage's processes on this machine, with its accelerate config."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="divmon replay",
        description="Train the stages of a published lineage in order, with the monitor on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", help="a YAML file, such as recipes/olmo3/think.yaml")
    add("--stage", action="append", default=[], metavar="NAME", help="only this stage; may be given again, or a,b")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe: sft.args.learning_rate=1e-5"
    )
    scales: list[Scale] = ["full", "miniature"]
    add("--scale", choices=scales, default="full", help="%(default)s unless told")
    add("--out", default="replays", help="folder for all lineages (%(default)s)")
    add("--seed", type=int, help="of training, in place of the recipe's")
    add("--dry-run", action="store_true", help="check the recipe and print the plan, nothing else")
    return parser
