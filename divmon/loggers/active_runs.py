"""Runs that the program itself has opened (W&B, MLflow, trackio), where there is no trainer to ask for its trackers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from divmon import loggers
from divmon.types import Probe, Snapshot


class active_runs:
    """The headline of each task, to each global run that is active at the time.

    A tracker is never imported here: one that the program has not imported has no run of its own. The program's rows
    keep their steps, so ours carry the training step as the value `divmon/step`. A tracker that fails is named once and
    left out from then on.
    """

    def __init__(self, *, everything: bool = False, say: Callable[[str], None] = loggers.say) -> None:
        self._everything, self._say = everything, say
        self._dropped: set[str] = set()
        self._wandb_row: tuple[str, int] | None = None
        self._overwrote = False

    def log(self, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        named = loggers.scalars(snapshot, self._everything)
        for name, send in (("wandb", self._wandb), ("mlflow", _mlflow), ("trackio", _trackio)):
            if name in sys.modules and name not in self._dropped:
                try:
                    send(sys.modules[name], named, snapshot.step)
                except Exception as error:
                    self._dropped.add(name)
                    self._say(f"divmon: no longer logging to {name}: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Nothing: the runs are the program's."""

    def _wandb(self, wandb: Any, named: dict[str, float], step: int) -> None:
        run = getattr(wandb, "run", None)
        if run is None:
            return
        if self._wandb_row is None or self._wandb_row[0] != run.id:
            for prefix in (loggers.FIRST, loggers.REST):
                run.define_metric(f"{prefix}/*", step_metric="divmon/step")
        row = (run.id, run.step)
        if row == self._wandb_row and not self._overwrote:
            self._overwrote = True
            self._say(
                "divmon: W&B shows only the last of several measurements between two of the program's own wandb.log"
                " calls; all of them are in the other places"
            )
        # Into the program's unfinished row. A row of our own would use up a step that the program may be about to log,
        # and W&B drops what comes with a step already used.
        run.log({**named, "divmon/step": step}, step=run.step)
        self._wandb_row = row


def _mlflow(mlflow: Any, named: dict[str, float], step: int) -> None:
    if mlflow.active_run() is not None:
        mlflow.log_metrics(named, step=step)


def _trackio(trackio: Any, named: dict[str, float], step: int) -> None:
    run = trackio.context_vars.current_run.get()
    if run is not None:
        with loggers.kept_step(run):
            run.log({**named, "divmon/step": step})
