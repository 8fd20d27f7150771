"""TensorBoard: into the host's own writer while it lives, after it where it has closed, else a run of our own."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divmon import loggers
from divmon.loggers import decomposition_chart
from divmon.loggers.tensorboard_layout import layout
from divmon.loggers.tensorboard_table import hyperparameters
from divmon.types import TERMS, Figure, Probe, Snapshot


class tensorboard:
    """The headline of each task as curves, one picture of its decomposition, and tables of completions.

    The host's writer is asked for at each call: it exists from the host's `on_train_begin` to its `on_train_end`, and a
    second writer beside a live one makes some TensorBoard servers lose sight of the host's curves.

    Args:
        output_dir: the host's; with no writer in it, ours goes to `<output_dir>/runs/divmon`.
        callbacks: the trainer's live list of callbacks.
        everything: all other figures too, their values by prompt as histograms, and each metric's decomposition.
        hparams: of the training, for the table of hyperparameters.
        resume_step: step of the checkpoint that training goes on from; what our own run holds after it is superseded.
        say: called with the one line that says where curves go, if not to the host.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Any] = (),
        *,
        everything: bool = False,
        hparams: Mapping[str, Any] | None = None,
        resume_step: int | None = None,
        say: Callable[[str], None] = loggers.say,
    ) -> None:
        self._runs = Path(output_dir or ".") / "runs"
        self._callbacks = callbacks
        self._everything = everything
        self._hparams: dict[str, Any] | None = dict(hparams or {})
        self._purge: int | None = resume_step + 1 if resume_step else 0
        self._say = say
        self._own: Any = None
        self._host_dir: str | None = None
        self._waiting: list[tuple[Snapshot, Sequence[Probe]]] = []
        self._named: dict[str, str] = {}
        self._layout: Any = None
        self._tasks: dict[str, dict[str, str]] = {}
        self._others: dict[str, str] = {}
        self._references: dict[str, int] = {}
        self._parts: dict[tuple[str, str], dict[int, Any]] = {}

    def log(self, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        host = self._host()
        if host is not None and host.tb_writer is None and host.logging_dir is None:
            self._waiting.append((snapshot, probes))  # the host has not begun: ours stands before it in the list
            return
        writer, after = self._writer(host)
        for late in [*self._waiting, (snapshot, probes)]:
            self._write(writer, *late)
        self._waiting = []
        writer.close() if after else writer.flush()

    def describe(self, named: dict[str, str], hparams: Mapping[str, Any]) -> None:
        """Texts and further hyperparameters of the run, written with its next snapshot."""
        self._named = named
        self._hparams = {**(self._hparams or {}), **hparams}

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def _host(self) -> Any:
        from transformers.integrations import TensorBoardCallback

        return next((c for c in self._callbacks if isinstance(c, TensorBoardCallback)), None)

    def _writer(self, host: Any) -> tuple[Any, bool]:
        """The writer to use, and whether it was opened for this call alone."""
        from torch.utils.tensorboard import SummaryWriter

        if host is not None and host.tb_writer is not None:
            # A writer that the user handed to the callback need not write where the callback says.
            self._host_dir = getattr(host.tb_writer, "log_dir", None) or host.logging_dir
            return host.tb_writer, False
        if host is not None:
            return SummaryWriter(self._host_dir or host.logging_dir), True
        if self._own is None:
            if self._purge is not None:
                where = f"{self._runs / 'divmon'}: tensorboard --logdir {self._runs}"
                self._say(f"divmon: no TensorBoard writer to share, so curves go to {where}")
            # Once only: what was written before this run, or after the step it resumed from, is no longer shown.
            self._own = SummaryWriter(str(self._runs / "divmon"), purge_step=self._purge)
            self._purge = None
        return self._own, False

    def _write(self, writer: Any, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        self._write_about(writer, snapshot)
        self._write_reference(writer, snapshot)
        for name, value in loggers.scalars(snapshot, self._everything).items():
            writer.add_scalar(name, value, snapshot.step)
        for name, text in loggers.texts(snapshot, probes).items():
            writer.add_text(name, text, snapshot.step)
        self._write_decomposition(writer, snapshot)
        if self._everything:
            _write_histograms(writer, snapshot)
        self._write_layout(writer, snapshot)

    def _write_about(self, writer: Any, snapshot: Snapshot) -> None:
        for name, text in self._named.items():
            writer.add_text(name, text, snapshot.step)
        self._named = {}
        if self._hparams is None:
            return
        from torch.utils.tensorboard.summary import hparams as summaries

        own, self._hparams = hyperparameters(self._hparams, snapshot), None
        # The table shows the last value of each of these, beside the composition: what it came to.
        levels = [[loggers.name_of(score) for score in scores] for scores in loggers.leading_scores(snapshot).values()]
        names = [name for own_names in levels for name in (*own_names, f"{own_names[0]}_change")]
        # Into the file that is open: add_hparams would open a second one, which some servers show in its place.
        for summary in summaries(own, dict.fromkeys(names, 0.0)):
            writer.file_writer.add_summary(summary)

    def _write_reference(self, writer: Any, snapshot: Snapshot) -> None:
        """The point that changes start from: nothing changed at the reference. It is known to be one when the first
        change since it has come; of an earlier run's it has no step here."""
        changes = loggers.leading_changes(snapshot)
        for change in changes:
            step = self._references.pop(change.task, None)
            for end in ("", "_low", "_high") if step is not None else ():
                writer.add_scalar(f"{loggers.name_of(change)}_change{end}", 0.0, step)
        for task in loggers.leading_scores(snapshot).keys() - {change.task for change in changes}:
            self._references.setdefault(task, snapshot.step)

    def _write_decomposition(self, writer: Any, snapshot: Snapshot) -> None:
        """The terms so far as one stacked picture a metric, where there is matplotlib to draw it."""
        leading = {(change.task, change.metric) for change in loggers.leading_changes(snapshot)}
        for task, by_metric in snapshot.decomposition.items():
            for metric, parts in by_metric.items():
                if not ((task, metric) in leading or self._everything):
                    continue
                so_far = self._parts.setdefault((task, metric), {})
                so_far[snapshot.step] = {name: parts[name] for name in (*TERMS, "change", "n")}
                if decomposition_chart.available():
                    picture = decomposition_chart.pixels(decomposition_chart.stacked(so_far, metric, task))
                    prefix = loggers.FIRST if (task, metric) in leading else loggers.REST
                    name = f"{prefix}/{task}/{metric}_decomposition"
                    writer.add_image(name, picture, snapshot.step, dataformats="HWC")

    def _write_layout(self, writer: Any, snapshot: Snapshot) -> None:
        """Again where a metric came late: the server takes the last one."""
        for task, scores in loggers.leading_scores(snapshot).items():
            self._tasks.setdefault(task, {s.metric: _title(s.metric, snapshot.figures) for s in scores})
        if self._everything:
            names = loggers.scalars(snapshot, True)
            self._others |= {name.removesuffix("_change"): name for name in names if name.endswith("_change")}
        made = layout(self._tasks, self._others)
        if made != self._layout:
            self._layout = made
            writer.add_custom_scalars(made)


def _title(metric: str, figures: Mapping[str, Figure]) -> str:
    """Of a chart, for who has never heard of sbert."""
    is_diversity = metric in figures and figures[metric].diverse == "higher"
    return f"diversity ({metric})" if is_diversity else metric


def _write_histograms(writer: Any, snapshot: Snapshot) -> None:
    for score in loggers.shown(snapshot.scores, snapshot.figures):
        values = [value for value in score.values if math.isfinite(value)]
        if len(values) > 1:
            name = f"{loggers.name_of(score, False)}_by_prompt"
            writer.add_histogram(name, np.array(values), snapshot.step)
