"""TensorBoard: into the host's own writer while it lives, after it where it has closed, else a run of our own."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divmon import loggers
from divmon.loggers import decomposition_chart
from divmon.types import TERMS, Probe, Snapshot


class tensorboard:
    """Curves of every metric and its change, their values by prompt as histograms, and tables of completions.

    The host's writer is asked for at each call: it exists from the host's `on_train_begin` to its `on_train_end`, and a
    second writer beside a live one makes some TensorBoard servers lose sight of the host's curves.

    Args:
        output_dir: the host's; with no writer in it, ours goes to `<output_dir>/runs/divmon`.
        callbacks: the trainer's live list of callbacks.
        resume_step: step of the checkpoint that training goes on from; what our own run holds after it is superseded.
        say: called with the one line that says where curves go, if not to the host.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Any] = (),
        *,
        resume_step: int | None = None,
        say: Callable[[str], None] = loggers.say,
    ) -> None:
        self._runs = Path(output_dir or ".") / "runs"
        self._callbacks = callbacks
        self._purge: int | None = resume_step + 1 if resume_step else 0
        self._say = say
        self._own: Any = None
        self._host_dir: str | None = None
        self._waiting: list[tuple[Snapshot, Sequence[Probe]]] = []
        self._about: tuple[dict[str, str], dict[str, float | str]] | None = None
        self._charts: dict[str, Any] = {}
        self._first: set[str] = set()
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

    def describe(self, named: dict[str, str], hparams: dict[str, float | str]) -> None:
        """Texts and hyperparameters of the run, written with its next snapshot."""
        self._about = (named, hparams)

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
        for name, value in loggers.scalars(snapshot).items():
            writer.add_scalar(name, value, snapshot.step)
        for name, text in loggers.texts(snapshot, probes).items():
            writer.add_text(name, text, snapshot.step)
        self._write_decomposition(writer, snapshot)
        for score in loggers.shown(snapshot.scores, snapshot.figures):
            values = [value for value in score.values if math.isfinite(value)]
            if len(values) > 1:
                writer.add_histogram(f"divmon/{score.task}/{score.metric}/by_prompt", np.array(values), snapshot.step)
        charts = {}
        self._first |= {f"{c.task}/{c.metric}" for c in loggers.headline(snapshot.changes, snapshot.figures)}
        for change in loggers.shown(snapshot.changes, snapshot.figures):
            name = f"divmon/{change.task}/{change.metric}/change"
            charts[f"{change.task}/{change.metric}"] = ["Margin", [name, f"{name}_low", f"{name}_high"]]
        if charts.keys() - self._charts.keys():  # a metric may come late; the server takes the last layout
            self._charts |= charts
            writer.add_custom_scalars(_layout(self._charts, self._first))

    def _write_about(self, writer: Any, snapshot: Snapshot) -> None:
        if self._about is None:
            return
        from torch.utils.tensorboard.summary import hparams as summaries

        (named, hparams), self._about = self._about, None
        for name, text in named.items():
            writer.add_text(name, text, snapshot.step)
        # The table shows the last value of each of these, beside the composition: what it came to.
        ends = {f"divmon/{s.task}/{s.metric}": 0.0 for s in loggers.headline(snapshot.scores, snapshot.figures)}
        changes = {f"{name}/change": 0.0 for name in ends}
        # Into the file that is open: add_hparams would open a second one, which some servers show in its place.
        for summary in summaries(hparams, ends | changes):
            writer.file_writer.add_summary(summary)

    def _write_decomposition(self, writer: Any, snapshot: Snapshot) -> None:
        """The terms so far as one stacked picture a metric, where there is matplotlib to draw it."""
        for task, by_metric in snapshot.decomposition.items():
            for metric, parts in by_metric.items():
                so_far = self._parts.setdefault((task, metric), {})
                so_far[snapshot.step] = {name: parts[name] for name in (*TERMS, "change", "n")}
                if decomposition_chart.available():
                    picture = decomposition_chart.pixels(decomposition_chart.stacked(so_far, metric, task))
                    writer.add_image(f"divmon/{task}/{metric}/made_of", picture, snapshot.step, dataformats="HWC")


def _layout(charts: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """What is looked at first (`names`) by itself: TensorBoard opens the first category, and draws all of it."""
    first = {name: chart for name, chart in charts.items() if name in names}
    layout = {
        "divmon: change since the reference": first,
        "divmon: what it is made of": _terms(charts),
        "divmon: change of every other figure": {n: chart for n, chart in charts.items() if n not in first},
    }
    return {title: own for title, own in layout.items() if own}


def _terms(charts: dict[str, Any]) -> dict[str, Any]:
    """A chart a decomposed metric with its terms as lines."""
    whole = [name.removesuffix("/quality_control") for name in charts if name.endswith("/quality_control")]
    return {name: ["Multiline", [rf"divmon/{re.escape(name)}/({'|'.join(TERMS)})/change$"]] for name in whole}
