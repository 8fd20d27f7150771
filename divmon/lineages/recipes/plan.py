"""Computes steps, tokens and batch sizes of each stage, and prints the plan for `replay --dry-run`."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.lineages.recipes import Recipe, Stage
from divmon.lineages.recipes.file import RecipeError
from divmon.training.yaml_file import read_yaml

WIDTH = 118


@dataclass(frozen=True)
class Amount:
    """A number of steps or tokens, and how it was computed."""

    value: int | None
    why: str

    def __str__(self) -> str:
        return f"{self.value:,} ({self.why})" if self.value is not None else f"unknown ({self.why})"


def accelerate_file(stage: Stage) -> Path | None:
    """The accelerate config of a stage."""
    return stage.file.path.parent / stage.accelerate if stage.accelerate else None


def accelerate_settings(stage: Stage) -> dict[str, Any]:
    """The settings of the stage's accelerate config. Raises RecipeError: it cannot be read, or it has no
    num_processes."""
    path = accelerate_file(stage)
    if path is None:
        return {"num_processes": 1, "num_machines": 1}
    try:
        _, settings = read_yaml(path)
    except RecipeError as error:
        raise stage.error(("accelerate",), str(error)) from None
    if not isinstance(settings.get("num_processes"), int) or settings["num_processes"] < 1:
        raise stage.error(("accelerate",), f"{path}: expected num_processes, at least 1")
    return settings


def processes(stage: Stage) -> int:
    """Number of training processes: WORLD_SIZE under a launcher, else the number in the accelerate config."""
    running = os.environ.get("WORLD_SIZE")
    return int(running) if running else int(accelerate_settings(stage)["num_processes"])


def accumulation(stage: Stage) -> int:
    """Gradient accumulation steps that give the recipe's global batch with this number of processes. Raises
    RecipeError: the global batch is not divisible."""
    one = per_device(stage) * processes(stage)
    if stage.global_batch % one:
        raise stage.error(
            ("global_batch",),
            f"{stage.global_batch} cannot be split over {processes(stage)} processes with {per_device(stage)} each: it"
            f" must be a multiple of {one}; change per_device_train_batch_size or the accelerate config",
        )
    return stage.global_batch // one


def per_device(stage: Stage) -> int:
    return int(stage.args.get("per_device_train_batch_size", 8))


def trl_args(stage: Stage, output_dir: str) -> dict[str, Any]:
    """All arguments of the stage's TRL config: the recipe's and those derived from it."""
    given = {**stage.args, "output_dir": output_dir, "gradient_accumulation_steps": accumulation(stage)}
    if stage.rewards:
        given["reward_weights"] = [reward.weight for reward in stage.rewards]
    return given


def steps(stage: Stage) -> Amount:
    """Optimizer steps."""
    args, data = stage.args, stage.data
    if args.get("max_steps", -1) > 0:
        return Amount(args["max_steps"], "max_steps")
    epochs = args.get("num_train_epochs", 3.0)
    if args.get("packing"):
        if data.tokens is None:
            return Amount(None, "data.tokens is not given")
        longest = args.get("max_length", 1024)
        if longest is None:
            return Amount(None, "max_length is null, so the length of a packed row is not known")
        row = stage.global_batch * longest
        return Amount(math.ceil(data.tokens * epochs / row), f"{epochs} x {data.tokens:,} tokens / {row:,} per step")
    if data.rows is None:
        return Amount(None, "data.rows is not given")
    examples = _completions(stage, data.rows) if stage.trainer == "grpo" else data.rows
    what = f"{epochs} x {examples:,} {'completions' if stage.trainer == 'grpo' else 'rows'}"
    return Amount(math.ceil(epochs * math.ceil(examples / stage.global_batch)), f"{what} / {stage.global_batch}")


def _completions(stage: Stage, rows: int) -> int:
    """Completions that GRPO trains on per epoch: those of whole generation batches, times the iterations over each."""
    args, each = stage.args, stage.args.get("num_generations", 8)
    batch = args.get("generation_batch_size") or stage.global_batch
    if args.get("steps_per_generation"):
        batch = per_device(stage) * processes(stage) * args["steps_per_generation"]
    prompts = max(1, batch // each)
    return rows // prompts * prompts * each * args.get("num_iterations", 1)


def tokens(stage: Stage) -> Amount:
    """Tokens trained on, or an upper bound."""
    args = stage.args
    if stage.trainer == "sft" and stage.data.tokens is not None and args.get("max_steps", -1) <= 0:
        epochs = args.get("num_train_epochs", 3.0)
        return Amount(int(stage.data.tokens * epochs), f"{epochs} x {stage.data.tokens:,}")
    longest = args.get("max_completion_length", 256) if stage.trainer == "grpo" else args.get("max_length", 1024)
    number = steps(stage).value
    if number is None or longest is None:
        return Amount(None, "steps or lengths are not known")
    texts = stage.global_batch * (2 if stage.trainer == "dpo" else 1)
    what = {"sft": "rows", "dpo": "chosen and rejected", "grpo": "completions"}[stage.trainer]
    return Amount(number * texts * longest, f"at most: {number:,} steps x {texts:,} {what} x {longest:,}")


def plan(recipe: Recipe, chosen: Sequence[str] = ()) -> str:
    """The resolved recipe as text."""
    stages = [stage for stage in recipe.stages.values() if not chosen or stage.name in chosen]
    lines = [f"{recipe.name}  ({recipe.scale})", *_wrapped(recipe.about, "  "), ""]
    lines += [f"  {'stage':12}{'trainer':9}{'start':28}{'steps':>10}  {'tokens':>24}"]
    for stage in stages:
        sized = tokens(stage)
        about = "-" if sized.value is None else f"{'<= ' if sized.why.startswith('at most') else ''}{sized.value:,}"
        number = steps(stage).value
        kind = "reused" if stage.recipe != recipe.name else stage.trainer
        lines.append(
            f"  {stage.name:12}{kind:9}{_start(recipe, stage):28}{'-' if number is None else f'{number:,}':>10}"
            f"  {about:>24}"
        )
    lines += ["", "  options of DiversityCallback in every stage"]
    lines += [f"    {name} = {value!r}" for name, value in recipe.monitor.items()]
    for stage in stages:
        lines += ["", *_stage(recipe, stage)]
    if recipe.not_established:
        lines += ["", "not established", *_points(recipe.not_established)]
    return "\n".join(lines)


def _start(recipe: Recipe, stage: Stage) -> str:
    return recipe.base if stage.start == "base" else stage.start


def _stage(recipe: Recipe, stage: Stage) -> list[str]:
    settings = accelerate_settings(stage)
    data, path = stage.data, accelerate_file(stage)
    lines = [f"{stage.name} {'-' * (WIDTH - len(stage.name) - 1)}"]
    if stage.recipe != recipe.name:
        lines.append(f"  reused: stage {stage.key[-1]!r} of {stage.recipe} ({stage.file.path}), trained there")
    lines += [
        f"  start      {_start(recipe, stage)}",
        f"  produces   {stage.produces or '-'}",
        f"  steps      {steps(stage)}",
        f"  tokens     {tokens(stage)}",
        f"  processes  {processes(stage)} on {settings.get('num_machines', 1)} machine(s), {path or 'no launcher'}",
        f"  batch      {stage.global_batch} = {processes(stage)} processes x {per_device(stage)} per device"
        f" x {accumulation(stage)} accumulation steps",
        f"  template   {stage.template.chat or stage.template.text or 'the tokenizer`s own, or none'!r}",
        f"  data       {data.path}{f' ({data.name})' if data.name else ''}, split {data.split}"
        + (f", revision {data.revision}" if data.revision else "")
        + (f", {data.rows:,} rows" if data.rows is not None else ""),
    ]
    kept = {"columns": ", ".join(data.keep), "source column": data.source_column}
    kept["prompts of at most"] = f"{data.max_prompt_tokens:,} tokens" if data.max_prompt_tokens else None
    lines += [f"             {name}: {value}" for name, value in kept.items() if value]
    lines += _sources(stage)
    for reward in stage.rewards:
        given = "".join(f", {name} {value}" for name, value in reward.arguments.items())
        lines.append(f"  reward     {reward.function}, weight {reward.weight:g}{given}")
    lines.append(f"  arguments of trl.{stage.trainer.upper()}Config")
    follows = ("gradient_accumulation_steps", "reward_weights")
    for name, value in trl_args(stage, "").items():
        if name != "output_dir":
            lines.append(f"    {name} = {value!r}{'   (derived)' if name in follows else ''}")
    lines += ["  monitor"] + [f"    {name} = {value!r}" for name, value in stage.monitor.items()]
    for name, points in (("open points", stage.open_points), ("not reproduced", stage.not_reproduced)):
        lines += [f"  {name}", *_points(points, "    ")] if points else []
    return lines


def _sources(stage: Stage) -> list[str]:
    total = sum(source.rows or 0 for source in stage.data.sources)
    ordered = sorted(stage.data.sources, key=lambda source: -(source.rows or 0))
    by_teacher: dict[str, int] = {}
    for source in ordered:
        if source.teacher:
            by_teacher[source.teacher] = by_teacher.get(source.teacher, 0) + (source.rows or 0)
    shares = [f"{name} {rows / max(total, 1):.1%}" for name, rows in sorted(by_teacher.items(), key=lambda t: -t[1])]
    return [
        f"             {source.rows or 0:>11,} {(source.rows or 0) / max(total, 1):6.1%}  {source.name}"
        + (f"  [{source.teacher}]" if source.teacher else "")
        for source in ordered
    ] + _wrapped(f"by teacher: {', '.join(shares)}" if shares else "", " " * 13)


def _points(points: Sequence[str], indent: str = "  ") -> list[str]:
    return [line for point in points for line in _wrapped(f"- {point}", indent)]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ") if text else []
