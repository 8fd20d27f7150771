"""Reads a recipe: a YAML file with the stages of a lineage, and what each of them trains on and how.

    recipe = load("think", sets=["rl.args.max_steps=10"])      # or a file: load("recipes/olmo3/think.yaml")
    recipe.stages["rl"].args["max_steps"]

`divmon.lineages.recipes.checks` says whether it can run; `divmon.cli.replay` runs it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from divmon.lineages.recipes.file import File, Key, RecipeError, build, closest, read_value, read_yaml

Scale = Literal["full", "miniature"]


@dataclass(frozen=True)
class Source:
    """A part of a data set."""

    name: str
    rows: int | None = None
    teacher: str | None = None
    """Who wrote the completions; of preference pairs "chosen over rejected"."""
    match: str | list[str] | None = None
    """How its rows begin in the source column; the longest that fits wins."""


@dataclass(frozen=True)
class Data:
    """A data set, as the hub or a local file has it."""

    path: str
    """A hub id, or a local .jsonl, .json or .parquet file, relative to where the command runs."""
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    rows: int | None = None
    tokens: int | None = None
    """Of one pass."""
    source_column: str | None = None
    sources: list[Source] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    """Columns that the trainer and the rewards get; all where empty."""
    reasoning: bool = False
    """The completions begin with a trace in <think> tags."""
    max_prompt_tokens: int | None = None
    """Rows with longer prompts are left out."""


@dataclass(frozen=True)
class Template:
    """How a row's prompt becomes what the model sees."""

    chat: str | None = None
    """A Jinja file, relative to the recipe."""
    text: str | None = None
    """Plain text with {prompt} in it."""


@dataclass(frozen=True)
class RewardUse:
    """A reward function and what it counts."""

    function: str
    """Of `divmon.training.rewards.rlvr`, a verifier's name, or "file.py:function"."""
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
    """Fields of TRL's config; `gradient_accumulation_steps` and `reward_weights` follow from the rest."""
    global_batch: int
    """Examples (GRPO: completions) of one optimizer step, over all processes."""
    template: Template = field(default_factory=Template)
    produces: str | None = None
    """The published model."""
    accelerate: str | None = None
    """An accelerate config file, relative to the recipe; one process where None."""
    rewards: list[RewardUse] = field(default_factory=list)
    monitor: dict[str, Any] = field(default_factory=dict)
    """Options of the callback for this stage: when it measures, and how a prompt is rendered."""
    open_points: list[str] = field(default_factory=list)
    not_reproduced: list[str] = field(default_factory=list)
    recipe: str = ""
    """Name of the recipe that it belongs to: another one where it is reused."""
    file: File = field(default_factory=lambda: File(Path()), repr=False)
    key: Key = ()
    """Where it stands in its file."""

    def error(self, key: Key, problem: str) -> RecipeError:
        """What to raise about a value of this stage."""
        return self.file.error((*self.key, *key), problem)


@dataclass(frozen=True)
class Recipe:
    """A lineage: one base and the stages that follow."""

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
    """A YAML file of overrides for `--scale miniature`, relative to the recipe: by kind of stage, never by lineage."""
    scale: Scale = "full"
    file: File = field(default_factory=lambda: File(Path()), repr=False)


LIBRARY = Path(__file__).parent / "olmo3"
"""The recipes that the package brings: in the source tree a link to recipes/olmo3, in a wheel a copy."""


def names() -> list[str]:
    """The recipes that the package brings, as `load` takes them."""
    return sorted(path.stem for path in LIBRARY.glob("*.yaml") if path.stem != "miniature")


def find(name: str | Path) -> Path:
    """The file of a recipe, given by its path or by the name of one that the package brings.

    Raises:
        RecipeError: there is neither; the message lists the names.
    """
    if not Path(name).is_file() and Path(name).name == str(name) and Path(name).suffix not in (".yaml", ".yml"):
        if str(name) not in names():
            raise RecipeError(f"no recipe and no file named {str(name)!r}{closest(str(name), names())}")
        return LIBRARY / f"{name}.yaml"
    return Path(name)


def load(path: str | Path, *, scale: Scale = "full", sets: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, with its overrides and the stages that it reuses.

    Args:
        path: its file, or the name of one that the package brings ("think"; `names` lists them).
        scale: "miniature" lays the overrides of the recipe's `miniature` file over each stage, by its trainer.
        sets: "key=value" with a dotted key; it may begin with a stage's name: "sft.args.learning_rate=1e-5".

    Raises:
        RecipeError: the file is no recipe: bad YAML, an unknown or missing key, a value of another type.
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
    """The stage of another recipe, under this one's name for it."""
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
    """Puts "sft.args.beta=1" into the recipe."""
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
    """Lays the miniature's overrides over the recipe: those for all, then for each stage those of its trainer."""
    if not raw.get("miniature"):
        raise file.error((), "has no key `miniature`, so there is no miniature of it")
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
    """Each value of `over` in its place; null takes a key away, and {times: x} multiplies what is there."""
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
    """Gives each source its share of so many rows, to the largest remainders what is left over."""
    known = [source for source in sources if isinstance(source.get("rows"), int)]
    total = sum(source["rows"] for source in known)
    if not total:
        return
    exact = [rows * source["rows"] / total for source in known]
    left = rows - sum(map(int, exact))
    favoured = sorted(range(len(known)), key=lambda i: int(exact[i]) - exact[i])[:left]
    for i, source in enumerate(known):
        source["rows"] = int(exact[i]) + (i in favoured)
