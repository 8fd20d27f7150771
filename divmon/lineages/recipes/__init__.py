"""Reads a recipe: a YAML file with the stages of a lineage, their data and their training arguments.

    recipe = load("think", sets=["rl.args.max_steps=10"])      # or a file: load("recipes/olmo3/think.yaml")
    recipe.stages["rl"].args["max_steps"]

`divmon.lineages.recipes.checks` checks that it can run; `divmon.cli.replay` runs it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from divmon.lineages.recipes.file import RecipeError, build
from divmon.options import closest
from divmon.training.yaml_file import File, Key, read_value, read_yaml

Scale = Literal["full", "miniature"]


@dataclass(frozen=True)
class Source:
    """A part of a data set."""

    name: str
    rows: int | None = None
    teacher: str | None = None
    """The model that wrote the completions; "chosen over rejected" for preference pairs."""
    match: str | list[str] | None = None
    """Prefix of its rows in the source column; the longest match wins."""


@dataclass(frozen=True)
class Data:
    """A data set on the hub or in a local file."""

    path: str
    """A hub id, or a local .jsonl, .json or .parquet file, relative to where the command runs."""
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    rows: int | None = None
    tokens: int | None = None
    """Tokens per epoch."""
    source_column: str | None = None
    sources: list[Source] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    """Columns passed to the trainer and the rewards; all if empty."""
    reasoning: bool = False
    """The completions begin with a trace in <think> tags."""
    max_prompt_tokens: int | None = None
    """Rows with longer prompts are dropped."""


@dataclass(frozen=True)
class Template:
    """How a prompt is rendered."""

    chat: str | None = None
    """A Jinja file, relative to the recipe."""
    text: str | None = None
    """Plain text with {prompt} in it."""


@dataclass(frozen=True)
class RewardUse:
    """A reward function and its weight."""

    function: str
    """A reward of `divmon.training.rewards.rlvr`, a verifier's name, or "file.py:function"."""
    weight: float = 1.0
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One training of a lineage."""

    name: str
    trainer: Literal["sft", "dpo", "grpo"]
    start: str
    """"base", a stage of this recipe, or a model: a hub id or a folder."""
    data: Data
    args: dict[str, Any]
    """Fields of TRL's config; `gradient_accumulation_steps` and `reward_weights` are derived from the rest."""
    global_batch: int
    """Examples (GRPO: completions) per optimizer step, over all processes."""
    template: Template = field(default_factory=Template)
    produces: str | None = None
    """The published model that this stage produced."""
    accelerate: str | None = None
    """An accelerate config file, relative to the recipe; one process where None."""
    rewards: list[RewardUse] = field(default_factory=list)
    monitor: dict[str, Any] = field(default_factory=dict)
    """Options of the callback for this stage: when to measure and how to render a prompt."""
    open_points: list[str] = field(default_factory=list)
    not_reproduced: list[str] = field(default_factory=list)
    recipe: str = ""
    """Name of the recipe that defines it; another recipe's for a reused stage."""
    file: File = field(default_factory=lambda: File(Path()), repr=False)
    key: Key = ()
    """Its path in the file."""

    def error(self, key: Key, problem: str) -> RecipeError:
        """The error to raise about a value of this stage."""
        return self.file.error((*self.key, *key), problem)


@dataclass(frozen=True)
class Recipe:
    """A lineage: a base model and the stages trained from it."""

    name: str
    base: str
    stages: dict[str, Stage]
    about: str = ""
    base_revision: str | None = None
    tokenizer: str | None = None
    monitor: dict[str, Any] = field(default_factory=dict)
    """Options of the callback for every stage."""
    not_established: list[str] = field(default_factory=list)
    miniature: str | None = None
    """A YAML file of overrides for `--scale miniature`, relative to the recipe; they depend on the trainer only."""
    scale: Scale = "full"
    file: File = field(default_factory=lambda: File(Path()), repr=False)


LIBRARY = Path(__file__).parent / "olmo3"
"""The recipes in the package: a link to recipes/olmo3 in the source tree, a copy of it in a wheel."""


def names() -> list[str]:
    """Names of the recipes in the package, as `load` takes them."""
    return sorted(path.stem for path in LIBRARY.glob("*.yaml") if path.stem != "miniature")


def find(name: str | Path) -> Path:
    """The file of a recipe, given its path or the name of a recipe in the package. Raises RecipeError: there is
    neither."""
    if not Path(name).is_file() and Path(name).name == str(name) and Path(name).suffix not in (".yaml", ".yml"):
        if str(name) not in names():
            raise RecipeError(f"no recipe and no file named {str(name)!r}{closest(str(name), names())}")
        return LIBRARY / f"{name}.yaml"
    return Path(name)


def load(path: str | Path, *, scale: Scale = "full", sets: Sequence[str] = ()) -> Recipe:
    """Reads a recipe with its overrides and the stages that it reuses.

    Args:
        path: its file, or the name of a recipe in the package ("think"; see `names`).
        scale: "miniature" applies the overrides in the recipe's `miniature` file to each stage, by its trainer.
        sets: "key=value" with a dotted key; it may begin with a stage's name: "sft.args.learning_rate=1e-5".

    Raises:
        RecipeError: bad YAML, an unknown or missing key, or a value of the wrong type.
    """
    file, raw = read_yaml(find(path))
    if scale == "miniature":
        _shrink(file, raw)
    for given in sets:
        _set(file, raw, given)
    if not isinstance(raw.get("stages"), dict) or not raw["stages"]:
        raise file.error(("stages",), f"expected a mapping with at least one stage, got {raw.get('stages')!r}")
    stages = {}
    for name, block in raw["stages"].items():
        key: Key = ("stages", name)
        if isinstance(block, dict) and "reuse" in block:
            stages[name] = _reused(file, key, block, name, scale)
        else:
            given_here = {"name": name, "recipe": raw.get("name", ""), "file": file, "key": key}
            stages[name] = build(Stage, block, file, key, given_here)
    rest = {k: v for k, v in raw.items() if k != "stages"}
    return build(Recipe, rest, file, (), {"stages": stages, "file": file, "scale": scale})


def _reused(file: File, key: Key, block: dict[str, Any], name: str, scale: Scale) -> Stage:
    """The stage of another recipe, under the name that this recipe gives it."""
    other_file, _, stage = str(block["reuse"]).rpartition("/")
    if len(block) > 1 or not other_file:
        raise file.error(key, "expected `reuse: <recipe.yaml>/<stage>` and nothing else")
    try:
        theirs = load(file.path.parent / other_file, scale=scale)
    except RecipeError as error:
        raise file.error((*key, "reuse"), str(error)) from None
    if stage not in theirs.stages:
        there = ", ".join(theirs.stages)
        raise file.error((*key, "reuse"), f"{other_file} has no stage {stage!r}; it has {there}")
    return dataclasses.replace(theirs.stages[stage], name=name)


def _set(file: File, raw: dict[str, Any], given: str) -> None:
    dotted_key, equals, text = given.partition("=")
    if not equals or not dotted_key:
        raise RecipeError(f"--set {given}: expected key=value, with a dotted key such as sft.args.learning_rate")
    parts = dotted_key.split(".")
    stages = raw.get("stages")
    at: Any = stages if isinstance(stages, dict) and parts[0] in stages else raw
    for part in parts[:-1]:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            raise RecipeError(f"--set {given}: {file.path} holds {at!r} at {part!r}, which has no keys of its own")
    try:
        at[parts[-1]] = read_value(text)
    except ValueError as error:
        raise RecipeError(f"--set {given}: {error}") from None


def _shrink(file: File, raw: dict[str, Any]) -> None:
    """Applies the miniature's overrides: first those for the recipe, then those for the trainer of each stage."""
    if not raw.get("miniature"):
        raise file.error((), "has no key `miniature`, so it cannot run at --scale miniature")
    small_file, small = read_yaml(file.path.parent / str(raw["miniature"]))
    everywhere, by_trainer = ("base", "tokenizer", "monitor"), ("sft", "dpo", "grpo")
    for name in small:
        if name not in everywhere + by_trainer:
            raise small_file.error((name,), f"expected one of {', '.join(everywhere + by_trainer)}")
    _lay(raw, {k: v for k, v in small.items() if k in everywhere})
    for stage in (raw.get("stages") or {}).values():
        if isinstance(stage, dict) and "trainer" in stage:
            _lay(stage, small.get(str(stage["trainer"]), {}))
            data = stage.get("data")
            if isinstance(data, dict) and isinstance(data.get("rows"), int) and isinstance(data.get("sources"), list):
                _share(data["rows"], [source for source in data["sources"] if isinstance(source, dict)])


def _lay(under: dict[str, Any], over: dict[str, Any]) -> None:
    """Merges `over` into `under`; null removes a key, and {times: x} multiplies its value."""
    for name, value in over.items():
        if value is None:
            under.pop(name, None)
        elif isinstance(value, dict) and value.keys() == {"times"} and isinstance(under.get(name), int | float):
            under[name] = float(f"{under[name] * value['times']:.6g}")
        elif isinstance(value, dict) and isinstance(under.get(name), dict):
            _lay(under[name], value)
        else:
            under[name] = copy.deepcopy(value)


def _share(rows: int, sources: list[dict[str, Any]]) -> None:
    """Scales the sources to `rows` in all, by the largest-remainder method."""
    known = [source for source in sources if isinstance(source.get("rows"), int)]
    total = sum(source["rows"] for source in known)
    if not total:
        return
    exact = [rows * source["rows"] / total for source in known]
    left = rows - sum(map(int, exact))
    favoured = sorted(range(len(known)), key=lambda i: int(exact[i]) - exact[i])[:left]
    for i, source in enumerate(known):
        source["rows"] = int(exact[i]) + (i in favoured)
