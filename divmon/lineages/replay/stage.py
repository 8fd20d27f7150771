"""One stage of a replay: its rows, its trainer with the callback, and the model it ends with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.lineages.miniature.lineages import NAME as MINIATURE
from divmon.lineages.miniature.lineages import stage_rows
from divmon.lineages.recipes import Data, Stage
from divmon.lineages.recipes.checks import LOCAL, config_class, read_template
from divmon.lineages.replay.lineage import ReplayError
from divmon.loggers import say

if TYPE_CHECKING:
    from datasets import Dataset

    from divmon.lineages.replay.lineage import Lineage


STATES = shutil.ignore_patterns(
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", "global_step*"
)
"""What a checkpoint holds beside the model."""


def train(lineage: Lineage, stage: Stage) -> int:
    """Trains the stage from its last whole checkpoint to its end; returns the steps it took. Raises ReplayError: its
    data cannot be had, or no row is left of them."""
    tokenizer = make_tokenizer(lineage, stage)
    raw = read_rows(stage, lineage.seed or 0)
    trainer = make_trainer(lineage, stage, tokenizer, raw)
    folder = Path(trainer.args.output_dir)
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None and _is_last(checkpoint):
        # Stopped after its last step. A trainer that resumes there takes one step too many.
        taken = int(checkpoint.name.rpartition("-")[2])
        say(f"divmon replay: {lineage.recipe.name}/{stage.name} had come to its end, at {checkpoint.name}")
        if trainer.is_world_process_zero():
            new = folder / "final.new"
            shutil.copytree(checkpoint, new, ignore=STATES, dirs_exist_ok=True)
            _put(new, lineage.final(stage))
        trainer.accelerator.wait_for_everyone()
        return taken
    where = f"goes on at {checkpoint.name}" if checkpoint else f"starts from {lineage.start(stage)}"
    say(f"divmon replay: {lineage.recipe.name}/{stage.name} {where}, {len(trainer.train_dataset):,} rows")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    _keep(trainer, lineage.final(stage))
    return int(trainer.state.global_step)


def make_trainer(lineage: Lineage, stage: Stage, tokenizer: Any, raw: Dataset) -> Any:
    """TRL's trainer of the stage, with the callback attached."""
    import trl

    from divmon.training.rewards import rlvr

    settings = lineage.settings(stage)
    if stage.start == "base" and lineage.recipe.base_revision:
        init = settings.get("model_init_kwargs") or {}
        settings["model_init_kwargs"] = {**init, "revision": lineage.recipe.base_revision}
    more: dict[str, Any] = {}
    if stage.trainer == "grpo":
        more["reward_funcs"] = [rlvr.function(use.function, use.arguments) for use in stage.rewards]
    return getattr(trl, f"{stage.trainer.upper()}Trainer")(
        lineage.start(stage),
        args=config_class(stage)(**settings),
        train_dataset=prepare(stage, raw, tokenizer),
        processing_class=tokenizer,
        callbacks=[_callback(lineage, stage, raw)],
        **more,
    )


def _callback(lineage: Lineage, stage: Stage, raw: Dataset) -> Any:
    from divmon.callback import DiversityCallback
    from divmon.training.composition import Composition

    ready = lineage.folder / stage.name / "data.json"  # of `divmon data --json`, for sets that take hours to read
    return DiversityCallback(
        **options(lineage, stage),
        output_dir=str(lineage.run_directory),
        data=Composition.read(ready) if ready.exists() else raw,
        source_column=stage.data.source_column,
        stage=stage.name,
        first_step=lineage.first_step(stage),
    )


def options(lineage: Lineage, stage: Stage) -> dict[str, Any]:
    """The callback's options in this stage."""
    return {**lineage.recipe.monitor, **stage.monitor}


def measure(lineage: Lineage, stage: Stage, model: str, step: int, name: str) -> None:
    """One snapshot of a model that is not trained here, into the line's run directory."""
    from transformers import AutoModelForCausalLM

    from divmon.monitor import DiversityMonitor

    say(f"divmon replay: measuring {model} as step {step:,} of {lineage.recipe.name} ({name})")
    init = dict(stage.args.get("model_init_kwargs") or {})
    if step == 0 and lineage.recipe.base_revision:
        init["revision"] = lineage.recipe.base_revision
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model, **init)
    except OSError as error:
        raise ReplayError(f"the model {model!r} cannot be had: {str(error).splitlines()[0]}") from None
    import torch

    on_gpu = torch.cuda.is_available() and not stage.args.get("use_cpu")
    torch.nn.Module.to(loaded, "cuda" if on_gpu else "cpu").eval()
    # As the stages that train on this template are prompted, also where the model itself was never tuned to it.
    chat = {"chat": True} if stage.template.chat else {}
    monitor = DiversityMonitor(**{**chat, **options(lineage, stage)}, output_dir=str(lineage.run_directory))
    try:
        monitor.measure(loaded, make_tokenizer(lineage, stage), step, stage=name)
    finally:
        monitor.close()


def make_tokenizer(lineage: Lineage, stage: Stage) -> Any:
    """The recipe's tokenizer with the stage's chat template. Raises ReplayError: it cannot be had."""
    from transformers import AutoTokenizer

    name = lineage.recipe.tokenizer or lineage.recipe.base
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except OSError as error:
        raise ReplayError(f"the tokenizer {name!r} cannot be had: {str(error).splitlines()[0]}") from None
    if stage.template.chat:
        tokenizer.chat_template = read_template(stage)
    return tokenizer


def read_rows(stage: Stage, seed: int = 0) -> Dataset:
    """The stage's data set with all its columns.

    Args:
        seed: of generated rows, those of the path "miniature".

    Raises:
        ReplayError: it cannot be had; the message says what to do.
    """
    import datasets

    data = stage.data
    try:
        if data.path == MINIATURE:
            rows = datasets.Dataset.from_list(stage_rows(stage, seed))
        elif data.path.endswith(LOCAL):
            kind = "parquet" if data.path.endswith(".parquet") else "json"
            rows = datasets.load_dataset(kind, data_files=data.path, split="train")
        else:
            rows = datasets.load_dataset(data.path, data.name, split=data.split, revision=data.revision)
    except (OSError, ValueError) as error:  # of the hub: not there, not allowed, no network, no such split
        reason = " ".join(str(error).split())[:300]
        raise ReplayError(
            f"the data of stage {stage.name!r}, {data.path!r}, cannot be had: {reason}. Log in (`hf auth login`) where"
            f" the set is gated; with no network give a file in its schema: --set {stage.name}.data.path=FILE.jsonl"
        ) from None
    if data.rows is not None and len(rows) != data.rows:
        say(f"divmon replay: {data.path} has {len(rows):,} rows, the recipe says {data.rows:,}")
    return rows


def prepare(stage: Stage, raw: Dataset, tokenizer: Any) -> Dataset:
    """The rows as the trainer takes them: the columns kept, prompts in their form, those too long left out. Raises
    ReplayError: a column is missing, or no row is left."""
    data = stage.data
    missing = [name for name in data.keep if name not in raw.column_names]
    if missing:
        there = ", ".join(raw.column_names)
        raise ReplayError(f"the data of stage {stage.name!r} have no column {missing[0]!r}; there are {there}")
    rows = raw.select_columns(data.keep) if data.keep else raw
    if stage.trainer == "grpo":
        text, chat = stage.template.text, bool(tokenizer.chat_template) and stage.template.text is None
        rows = rows.map(lambda row: {"prompt": _prompt(row["prompt"], text, chat)}, desc="prompts")
        rows = _short(rows, data, tokenizer)
    if not len(rows):
        raise ReplayError(f"the data of stage {stage.name!r} have no row left; see max_prompt_tokens")
    return rows


def _prompt(prompt: Any, text: str | None, chat: bool) -> Any:
    """In plain text, or as a conversation."""
    if text is not None:
        said = (
            prompt if isinstance(prompt, str) else next(m["content"] for m in reversed(prompt) if m["role"] == "user")
        )
        return text.replace("{prompt}", said)
    return [{"role": "user", "content": prompt}] if chat and isinstance(prompt, str) else prompt


def _short(rows: Dataset, data: Data, tokenizer: Any) -> Dataset:
    limit = data.max_prompt_tokens
    if limit is None:
        return rows

    def fits(row: dict[str, Any]) -> bool:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            prompt = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        return len(tokenizer(prompt, add_special_tokens=False).input_ids) <= limit

    kept = rows.filter(fits, desc="prompts that fit")
    if len(kept) < len(rows):
        say(
            f"divmon replay: left out {len(rows) - len(kept):,} of {len(rows):,} prompts, of more than {limit:,} tokens"
        )
    return kept


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end: the trainer's state is what is written last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_last(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    return bool(state["global_step"] >= state["max_steps"])


def _keep(trainer: Any, final: Path) -> None:
    """Saves the model where the next stage finds it, whole or not at all; every process comes here."""
    new = final.with_name("final.new")
    trainer.save_model(str(new))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        _put(new, final)
    trainer.accelerator.wait_for_everyone()


def _put(new: Path, final: Path) -> None:
    if final.exists():
        shutil.rmtree(final)
    new.rename(final)
