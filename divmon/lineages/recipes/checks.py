"""Checks that a recipe can run before anything is loaded; errors name file, line and key."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from divmon.lineages.recipes import Recipe, Stage
from divmon.lineages.recipes.file import RecipeError
from divmon.lineages.recipes.plan import accumulation, per_device, processes
from divmon.options import Options, checked, closest, fits, in_words, option_types
from divmon.training.config import check_metrics, check_probes
from divmon.training.yaml_file import File, Key

FOLLOWS = {
    "output_dir": "set by divmon replay --out",
    "gradient_accumulation_steps": "it follows from global_batch, per_device_train_batch_size and the processes",
    "reward_weights": "it follows from the rewards",
    "resume_from_checkpoint": "a replay resumes by itself",
}
"""Fields of a TRL config that a recipe must not set."""

PER_STAGE = (
    *("every", "at", "geometric", "at_start", "at_end", "on_evaluate"),
    *("chat", "chat_template_kwargs", "system_prompt", "think", "max_batch_tokens"),
)
"""Options that a stage may change. The others must be equal in all stages, which are compared with one another."""

LOCAL = (".jsonl", ".json", ".parquet")


def check(recipe: Recipe, chosen: Sequence[str] = ()) -> None:
    """Checks the recipe and the stages to run. Raises RecipeError: the first problem found."""
    for name in chosen:
        if name not in recipe.stages:
            raise RecipeError(f"{recipe.file.path}: no stage {name!r}{closest(name, recipe.stages)}")
    _check_monitor(recipe)
    names = list(recipe.stages)
    for stage in (recipe.stages[name] for name in chosen or names):
        _check_start(recipe, stage, names)
        _check_arguments(stage)
        _check_sizes(stage)
        _check_data(stage)
        _check_template(stage)
        _check_rewards(stage)


GIVEN_BY_REPLAY = {"output_dir", "stage", "first_step", "data", "source_column"}
"""Options that the stage and `--out` determine."""


def _check_monitor(recipe: Recipe) -> None:
    known = option_types().keys() - GIVEN_BY_REPLAY
    for name, value in recipe.monitor.items():
        if name not in known:
            raise recipe.file.error(("monitor", name), f"DiversityCallback has no such option{closest(name, known)}")
        _check_option(recipe.file, ("monitor",), name, value)
    given = _together(recipe.file, ("monitor",), recipe.monitor)
    for name, check_names in (("metrics", check_metrics), ("probes", check_probes)):
        try:
            check_names(given)
        except ValueError as error:
            raise recipe.file.error(("monitor", name), str(error)) from None
    for stage in recipe.stages.values():
        for name, value in stage.monitor.items():
            if name not in PER_STAGE:
                why = "it must be the same in all stages: set it in the recipe's own `monitor`" if name in known else ""
                raise stage.error(("monitor", name), why or f"no such option{closest(name, PER_STAGE)}")
            _check_option(stage.file, (*stage.key, "monitor"), name, value)
        _together(stage.file, (*stage.key, "monitor"), {**recipe.monitor, **stage.monitor})


def _check_option(file: File, key: Key, name: str, value: Any) -> None:
    try:
        checked(name, value)
    except ValueError as error:
        raise file.error((*key, name), str(error).removeprefix(f"{name}: ")) from None


def _together(file: File, key: Key, options: dict[str, Any]) -> Options:
    try:
        return Options(**options)
    except ValueError as error:
        raise file.error(key, str(error)) from None


def _check_start(recipe: Recipe, stage: Stage, names: list[str]) -> None:
    if stage.start == "base":
        return
    if stage.recipe != recipe.name:
        raise recipe.file.error(
            ("stages", stage.name, "reuse"),
            f"expected a stage that starts at its base, this one starts at {stage.start!r}",
        )
    if stage.start in names:
        if names.index(stage.start) >= names.index(stage.name):
            raise stage.error(("start",), f"the stage {stage.start!r} comes later; list it before this one")
    elif "/" not in stage.start and not Path(stage.start).exists():
        there = ", ".join(["base", *names[: names.index(stage.name)]])
        raise stage.error(
            ("start",),
            f"there is no stage {stage.start!r} before this one; there are {there}, or name a model or folder",
        )


def config_class(stage: Stage) -> Any:
    """TRL's config of the stage's trainer."""
    import trl

    return getattr(trl, f"{stage.trainer.upper()}Config")


def _check_arguments(stage: Stage) -> None:
    """Every argument is a field that the installed TRL has, and of its type; then all of them together."""
    config = config_class(stage)
    fields = {f.name: f for f in dataclasses.fields(config)}
    hints = typing.get_type_hints(config)
    for name, value in stage.args.items():
        if name in FOLLOWS:
            raise stage.error(("args", name), f"a recipe does not set this: {FOLLOWS[name]}")
        if name not in fields:
            what = f"{config.__name__} of the installed TRL {version('trl')} has no field {name!r}"
            raise stage.error(("args", name), what + closest(name, fields))
        if not _plainly_fits(hints[name], value):
            raise stage.error(("args", name), f"expected {in_words(hints[name])}, got {value!r}")
    # Arguments that depend on this machine (devices, processes) are left out: the recipe is checked, not the machine.
    machine = ("bf16", "fp16", "tf32", "use_vllm", "generation_batch_size", "steps_per_generation", "deepspeed", "fsdp")
    given = {name: value for name, value in stage.args.items() if name not in machine}
    if stage.trainer == "grpo":
        given["generation_batch_size"] = per_device(stage) * given.get("num_generations", 8)
    try:
        config(**{**given, "output_dir": "unused", "use_cpu": True, "bf16": False})
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        named = [name for name, value in given.items() if name in text or (isinstance(value, str) and value in text)]
        raise stage.error(("args", *named[:1]), f"{config.__name__} refuses it: {text}") from None


def _plainly_fits(hint: Any, value: Any) -> bool:
    """Whether a value has a type that YAML can hold; other types are left to TRL, which reads many from text."""
    parts = typing.get_args(hint) or (hint,)
    simple = {int, float, str, bool, type(None)}
    return fits(hint, value) if simple.issuperset(parts) or hint in simple else True


def _check_sizes(stage: Stage) -> None:
    if stage.global_batch < 1:
        raise stage.error(("global_batch",), f"expected at least 1, got {stage.global_batch}")
    accumulation(stage)
    if stage.trainer != "grpo":
        return
    args = stage.args
    if "steps_per_generation" in args:
        raise stage.error(("args", "steps_per_generation"), "give generation_batch_size (completions) in its place")
    group, drawn = args.get("num_generations", 8), args.get("generation_batch_size", stage.global_batch)
    key = "generation_batch_size" if "generation_batch_size" in args else "num_generations"
    for divisor, what in (
        (group, f"num_generations ({group})"),
        (per_device(stage) * processes(stage), f"{processes(stage)} processes x {per_device(stage)}"),
        (stage.global_batch, f"global_batch ({stage.global_batch}), the completions of an optimizer step"),
    ):
        if drawn % divisor:
            raise stage.error(
                ("args", key), f"{drawn} completions are generated at a time, which is not a multiple of {what}"
            )
    context, answer = args.get("vllm_max_model_length"), args.get("max_completion_length", 256)
    if context is not None and context < answer + (stage.data.max_prompt_tokens or 0):
        need = f"{stage.data.max_prompt_tokens or 0} prompt tokens and {answer} of completion"
        raise stage.error(("args", "vllm_max_model_length"), f"{context} is too short for {need}")


def _check_data(stage: Stage) -> None:
    data = stage.data
    if data.path.endswith(LOCAL) and not Path(data.path).is_file():
        raise stage.error(("data", "path"), f"there is no file {data.path!r} (looked in {Path.cwd()})")
    counts = [source.rows for source in data.sources]
    known = sum(count for count in counts if count is not None)
    if data.rows is not None and counts and None not in counts and known != data.rows:
        raise stage.error(("data", "sources"), f"their rows sum to {known:,}, but the data set has {data.rows:,}")
    required = {"sft": (), "dpo": ("chosen", "rejected"), "grpo": ("prompt",)}[stage.trainer]
    for column in required:
        if data.keep and column not in data.keep:
            raise stage.error(("data", "keep"), f"{stage.trainer.upper()}Trainer needs the column {column!r}")


def _check_template(stage: Stage) -> None:
    chat, text = stage.template.chat, stage.template.text
    if chat and text:
        raise stage.error(("template",), "expected `chat` or `text`, not both")
    if text is not None and "{prompt}" not in text:
        raise stage.error(("template", "text"), "expected {prompt} in it")
    if text is not None and stage.trainer != "grpo":
        raise stage.error(("template", "text"), "only prompts of GRPO are put into plain text; use `chat`")
    if chat is None:
        return
    source = read_template(stage)
    if stage.args.get("assistant_only_loss") and "generation" not in source:
        raise stage.error(
            ("template", "chat"),
            "assistant_only_loss needs {% generation %} ... {% endgeneration %} around the answers",
        )


def read_template(stage: Stage) -> str:
    """The text of the stage's chat template, checked to compile. Raises RecipeError: it cannot be read, or it is not a
    valid Jinja template."""
    import jinja2
    from transformers.utils.chat_template_utils import _compile_jinja_template

    assert stage.template.chat is not None
    path = stage.file.path.parent / stage.template.chat
    try:
        source = path.read_text(encoding="utf-8")
        _compile_jinja_template(source)
    except OSError as error:
        raise stage.error(("template", "chat"), f"{path} cannot be read: {error.strerror or error}") from None
    except jinja2.TemplateError as error:
        raise stage.error(("template", "chat"), f"{path} is not a valid Jinja template: {error}") from None
    return source


def _check_rewards(stage: Stage) -> None:
    from divmon.training.rewards import rlvr

    if stage.trainer != "grpo":
        if stage.rewards:
            raise stage.error(("rewards",), f"the trainer is {stage.trainer}; only grpo takes rewards")
        return
    if not stage.rewards:
        raise stage.error((), "the key `rewards` is missing: GRPO needs at least one reward function")
    for i, use in enumerate(stage.rewards):
        try:
            rlvr.function(use.function, use.arguments)
        except (TypeError, ValueError) as error:
            raise stage.error(("rewards", i), str(error)) from None
