"""Which places a run logs to: those of its trainer, or its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from divmon.loggers import Logger, say
from divmon.loggers.active_runs import active_runs
from divmon.loggers.console import console
from divmon.loggers.superseded import hide_superseded
from divmon.loggers.tensorboard import tensorboard
from divmon.loggers.tensorboard_table import of_training
from divmon.loggers.trackers import trackers


def own_loggers(directory: Path, resume_step: int, everything: bool = False) -> list[Logger]:
    """Where a run without a trainer logs."""
    curves = tensorboard(directory, everything=everything, resume_step=resume_step)
    return [curves, active_runs(everything=everything), console()]


def host_loggers(
    trainer: Any, args: Any, state: Any, control: Any, model: Any, resume_step: int, everything: bool = False
) -> list[Logger]:
    """Where a run of a trainer logs: where the trainer itself does, and the console.

    Args:
        trainer: None where it was not found; then as a run without one, and one line says so.
        args, state, control: of the trainer, as its callbacks are handed them.
        resume_step: the step that training goes on from, as snapshots are numbered.
        everything: all figures, not the headline alone.
    """
    if trainer is None:
        say(
            "divmon: found no trainer that holds this callback, so scores go to a TensorBoard run of its own and to"
            " active global runs; pass trainer= to log into the trainer's"
        )
        return own_loggers(Path(args.output_dir), resume_step, everything)
    callbacks = trainer.callback_handler.callbacks
    if state.global_step:
        hide_superseded(callbacks, resume_step)
    hparams = of_training(args, model)
    return [
        tensorboard(args.output_dir, callbacks, everything=everything, hparams=hparams, resume_step=resume_step),
        trackers(callbacks, args, state, control, model, everything=everything),
        console(),
    ]
