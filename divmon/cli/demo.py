"""`python -m divmon demo`: fine-tune one small model on narrow and on broad data, and watch its diversity.

Nothing is downloaded: base model, data and probe are made here (`divmon.lineages.miniature`), the text encoder comes
with the `demo` extra. Everything that decides a number is seeded.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.cli.command import command, flag
from divmon.loggers.terminal import show

if TYPE_CHECKING:
    from divmon.lineages.miniature.base import BaseConfig
    from divmon.storage.reader import Run

RUNS = {"narrow": "one style of solution", "broad": "six styles of solution"}
MARKER = "divmon-demo.json"
"""Lies in a folder that the demo wrote; only such a folder is written over."""

LEARNING_RATE = 5e-4
BATCH_SIZE = 16


@dataclass(frozen=True)
class Common:
    """What both fine-tunings have in common."""

    tokenizer: Any
    asked: Any
    """The probe."""
    seed: int
    steps: int
    num_samples: int


class DemoError(Exception):
    """The demo cannot run here; the message says why and what to do."""


@dataclass
class Flags:
    """Trains a miniature model on narrow and on broad data and watches its diversity collapse or stay.
    At most four minutes on two CPU cores the first time, about half once the base model is cached."""

    out: Path = flag(Path("divmon-demo"), metavar="DIR")
    """Folder for the results."""
    seed: int = 0
    """Seed of the base model, the data and the samples."""
    steps: int = flag(60, metavar="N")
    """Fine-tuning steps of each run."""


@command("divmon demo", fails=(DemoError,))
def main(given: Flags) -> int:
    """Runs the demo; 0 when it is through, 2 when something is missing, with the reason on the error stream."""
    if given.steps < 4:
        raise DemoError(f"--steps: expected at least 4, one for each measurement after the first, got {given.steps}")
    run(given.out, given.seed, steps=given.steps)
    return 0


def run(
    out: str | Path,
    seed: int = 0,
    *,
    steps: int = 60,
    num_prompts: int = 32,
    num_samples: int = 16,
    base: BaseConfig | None = None,
) -> dict[str, Run]:
    """The demo: base model, two fine-tunings, what was seen. Results of an earlier demo in `out` are replaced.

    Args:
        out: gets narrow/ and broad/ (each a trainer's output_dir with TensorBoard logs and divmon's run directory) and
            curves.png.
        steps: of each fine-tuning; measured at the start and after each quarter.
        base: shape and training of the base model, the miniature's own where None.

    Raises:
        DemoError: a package of the demo extra is missing, or `out` holds something else.
    """
    out = Path(out)
    began = time.perf_counter()
    _check_extra()
    _clear(out)

    import torch

    from divmon.lineages.miniature import display
    from divmon.lineages.miniature.data import probe
    from divmon.storage.reader import read_run

    _quieten()
    torch.set_num_threads(1)  # on shared cores two threads are slower, and sums in one repeat bit for bit
    show(f"divmon demo: about three minutes on two quiet cores, one when it has run before; results go to {out}")
    model, tokenizer = _base_model(seed, base)
    common = Common(tokenizer, probe(num_prompts, seed), seed, steps, num_samples)
    runs = {}
    for i, (name, what) in enumerate(RUNS.items(), 2):
        show(f"\n[{i}/3] Fine-tuning it on {what}, {steps} steps with TRL's SFTTrainer and the DiversityCallback")
        _fine_tune(out / name, name, copy.deepcopy(model), common)
        runs[name] = read_run(out / name)
    picture = out / "curves.png"
    display.draw(runs, picture, num_prompts, num_samples)
    (out / MARKER).write_text(json.dumps({"seed": seed, "steps": steps, "finished": True}))
    show(display.summary(runs, common.asked, num_samples))
    show(display.where(out, picture, time.perf_counter() - began))
    return runs


def _base_model(seed: int, config: BaseConfig | None) -> tuple[Any, Any]:
    from divmon.lineages.miniature.base import BaseConfig, base_model, cache_folder, is_cached
    from divmon.loggers.console import progress_bar

    config = config or BaseConfig()
    if is_cached(seed, config):
        show(f"[1/3] Base model: from the cache in {cache_folder()}")
        return base_model(seed, config=config)
    show(
        "[1/3] Base model: a small Olmo 3 learns to solve word problems in ten styles, some wrongly\n"
        f"      (about a minute; kept in {cache_folder()})"
    )
    began = time.perf_counter()
    with progress_bar("base model", config.steps) as done:
        model, tokenizer = base_model(seed, config=config, progress=lambda *_: done(1))
    show(f"      {model.num_parameters():,} parameters, {config.steps} steps, {time.perf_counter() - began:.0f} s")
    return model, tokenizer


def _fine_tune(folder: Path, name: str, model: Any, common: Common) -> None:
    from divmon.callback import DiversityCallback

    steps, seed, many = common.steps, common.seed, common.num_samples
    callback = DiversityCallback(common.asked, every=max(steps // 4, 1), num_samples=many, embedder="minilm", seed=seed)
    settings = {"logging_steps": max(steps // 12, 1), "report_to": "tensorboard"}
    sft_trainer(folder, name, model, common.tokenizer, seed, steps, callbacks=[callback], **settings).train()


def sft_trainer(
    folder: Path, name: str, model: Any, tokenizer: Any, seed: int, steps: int, callbacks: Any = (), **settings: Any
) -> Any:
    """SFT of the miniature on one of the demo's data sets, "narrow" or "broad", ready to train.

    Args:
        settings: of `SFTConfig`, beside or in place of the demo's.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from divmon.lineages.miniature import data

    rows = {"narrow": data.narrow, "broad": data.broad}[name](steps * BATCH_SIZE, seed)
    own: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "gradient_checkpointing": False}
    own |= {"use_cpu": True, "bf16": False}
    own |= {"learning_rate": LEARNING_RATE, "per_device_train_batch_size": BATCH_SIZE, "disable_tqdm": True}
    trainer = SFTTrainer(
        model,
        args=SFTConfig(output_dir=str(folder), max_steps=steps, seed=seed, **own | settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)  # the host's losses go to TensorBoard; the terminal is for the curves
    return trainer


def _check_extra() -> None:
    """That what only the `demo` extra brings is there: said now and not after minutes of training."""
    from divmon.scoring.encoders import TextEncoder
    from divmon.scoring.model_loading import Unavailable

    if importlib.util.find_spec("matplotlib") is None:
        raise DemoError("the picture needs matplotlib, which is not installed; run: pip install 'divmon[demo]'")
    try:
        TextEncoder("minilm", device="cpu").load()
    except Unavailable as error:
        raise DemoError(str(error)) from error


def _clear(out: Path) -> None:
    """Makes `out` ready for a fresh run, so that no curve mixes with one of before."""
    if out.exists() and not out.is_dir():
        raise DemoError(f"--out: expected a folder, '{out}' is a file")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise DemoError(f"'{out}' holds files that are not the demo's; give another folder with --out")
    try:
        for name in RUNS:
            if (out / name).exists():
                shutil.rmtree(out / name)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text(json.dumps({"finished": False}))
    except OSError as error:
        raise DemoError(f"cannot write to '{out}': {error}; give another folder with --out") from error


def _quieten() -> None:
    """The libraries' own progress bars and advice, which are not about what the demo shows."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
