"""Reading a run back: its folder, its manifest, one snapshot, and all of them as data frames.

    run = read_run("runs/a")
    run.scores.query("task == 'gsm8k' and metric == 'sbert'").plot(x="step", y="mean")

What lies in a run directory (format 1):

    manifest.json                         what the run is: probes, configuration, model, versions
    snapshots/00000100.samples.jsonl.gz   the samples of step 100, one a line
    snapshots/00000100.json               its scores, changes and provenance; written last: where it is, all is
                                          (this and the manifest end with their own sha256)
    likelihood/                           the same of the likelihood of stored completions, between two snapshots
    superseded/                           snapshots after the step from which the run was resumed
    damaged/, manifest-damaged-*.json     what could not be read when the run was resumed
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.storage.data_frames import floats
from divmon.storage.manifest import checked_manifest, read_figures, read_probes
from divmon.storage.problems import Problems, find_problems
from divmon.storage.snapshot_files import marker_path, read_marker, read_samples, unreadable
from divmon.types import TRUNCATED, Change, Figure, Likelihood, Probe, Sample, Score, Snapshot, Verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

FOLDER = "_divmon"
"""Name of the run directory inside a trainer's output_dir; the underscore keeps it out of a push to the hub."""

WATCH_FOLDER = "_divmon_watch"
"""The same for `divmon watch`, so that a trainer with the callback never finds its own directory taken."""


BETWEEN = "likelihood"
"""Folder in a run directory for what was measured between two snapshots, as a run directory of its own."""


def find_folder(path: str | os.PathLike[str]) -> Path:
    """The run directory that `path` is or holds. Raises FileNotFoundError: there is none."""
    tried = [Path(path), Path(path) / FOLDER, Path(path) / WATCH_FOLDER]
    for folder in tried:
        if (folder / "manifest.json").is_file():
            return folder
    looked = " and ".join(str(folder / "manifest.json") for folder in tried)
    raise FileNotFoundError(f"no divmon run in {str(path)!r}: looked for {looked}")


def list_steps(folder: Path) -> list[int]:
    """Steps of the snapshots that were written to the end, ascending."""
    files = (path for path in (folder / "snapshots").glob("*.json") if path.is_file())  # no pipe, which waits for ever
    return sorted(int(path.stem) for path in files if re.fullmatch("[0-9]{8,}", path.stem))


def read_snapshot(folder: Path, step: int, *, samples: bool = True) -> Snapshot:
    """The snapshot of a step, equal to the one written, but for texts that a size limit cut or left out (empty here).

    Args:
        samples: read the samples and verdicts too, which take longest; without, there are none in it.

    Raises:
        KeyError: there is none of that step; the message lists those there are.
        ValueError: a file of it is damaged; the message names the file.
    """
    if not marker_path(folder, step).is_file():
        raise KeyError(f"no snapshot of step {step} in {folder}; there are {list_steps(folder)}")
    marker = read_marker(folder, step, json.loads)
    rows = read_samples(folder, step, json.loads, marker) if samples else []
    kept = ("task", "prompt_id", "index", "reasoning", "finish", "n_tokens", "answered")
    return Snapshot(
        step=step,
        samples=[
            Sample(
                text=row["text"] or "",
                verdict=_verdict(row),
                likelihood=Likelihood(*map(_number, row["likelihood"])) if row.get("likelihood") else None,
                **{name: row[name] for name in kept},
            )
            for row in rows
        ],
        scores=[
            Score(**{**_numbers(row, "mean", "low", "high"), "values": tuple(map(_number, row["values"]))})
            for row in marker["scores"]
        ],
        changes=[Change(**_numbers(row, "reference", "now", "change", "low", "high")) for row in marker["changes"]],
        decomposition=marker["decomposition"],
        missing={(task, prompt_id): reason for task, prompt_id, reason in marker["missing"]},
        provenance=marker["provenance"],
    )


def read_run(path: str | os.PathLike[str]) -> Run:
    """A run by its own directory or by the output_dir that holds it; it may still be training.

    Raises:
        FileNotFoundError: there is no run; the message says what was looked for.
        ValueError: a newer divmon wrote it.
    """
    folder = find_folder(path)
    return Run(folder, *checked_manifest(folder))


class Run:
    """A run as data frames, each built when first asked for. What is damaged is named in a warning and left out."""

    def __init__(self, folder: Path, manifest: dict[str, Any], faults: Sequence[str] = ()) -> None:
        self.folder = folder
        self.manifest = manifest
        self._faults = tuple(faults)
        """What is wrong with the manifest, a line each."""
        self._damaged: dict[int, str] = {}

    def __repr__(self) -> str:
        """The run in a line, and a second that warns where measurements failed or nothing can be compared yet."""
        steps, problems = self.steps, self.problems
        span = f", steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else f", step {steps[0]}" if steps else ""
        said = [f"divmon run {self.folder}: {len(steps)} snapshot{'' if len(steps) == 1 else 's'}{span}"]
        if problems:
            said.append(f"WARNING: {problems.summary}; run.problems has the reasons")
        elif len(steps) == 1 and self.changes.empty:  # the reference may be of another run
            said.append("one snapshot: nothing can be said about change yet")
        return "\n".join(said)

    @cached_property
    def problems(self) -> Problems:
        """Failed and missing measurements, figures and prompts left out, damaged files; false where all is well.

        `str(run.problems.found[0])`, `run.problems.lines()` for a person, `run.problems.frame()` as a data frame.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is damaged is among the problems
            markers = self._markers
        samples = {step: why for step, marker in markers.items() if (why := unreadable(self.folder, step, marker))}
        return find_problems(self.manifest, markers, self._damaged, samples, self._faults)

    @property
    def steps(self) -> list[int]:
        return list_steps(self.folder)

    def read(self, step: int, *, samples: bool = True) -> Snapshot:
        """One snapshot, whole or without its samples; raises as `read_snapshot`."""
        return read_snapshot(self.folder, step, samples=samples).replace(figures=self.figures)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """What its figures are; `divmon.scoring.figure_registry.Registry` answers for all."""
        return read_figures(self.manifest)

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        return read_probes(self.manifest)

    @cached_property
    def provenance(self) -> dict[int, dict[str, Any]]:
        """What took effect, by step."""
        return {step: marker["provenance"] for step, marker in self._markers.items()}

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a step, task and metric; `epoch` and `tokens` are columns where the provenance has them."""
        from divmon.storage import data_frames

        return data_frames.figures(self._with_between(self._markers), "scores", "mean", "low", "high")

    @cached_property
    def changes(self) -> pd.DataFrame:
        """One row a step, task and metric: the paired change since the reference with its interval.

        Where a resumed run took a new reference, of the snapshots since then.
        """
        from divmon.storage import data_frames

        return data_frames.figures(
            self._with_between(self._segment), "changes", "reference", "now", "change", "low", "high"
        )

    @cached_property
    def decomposition(self) -> pd.DataFrame:
        """One row a step, task, pairwise metric and part of its change since the reference: "change" itself, the parts
        that add up to it, and "correct_pair_change"; with interval, n, and what of a stratum was seen."""
        from divmon.storage import data_frames

        return data_frames.decomposition(self._segment)

    @cached_property
    def per_prompt(self) -> pd.DataFrame:
        """One row a step, task, metric and prompt; `value` is NaN where the metric is undefined."""
        from divmon.storage import data_frames

        return data_frames.per_prompt(self._markers, self.probes)

    @cached_property
    def values(self) -> dict[tuple[str, str], dict[int, NDArray[np.float64]]]:
        """(task, metric) -> step -> its value of each prompt, in the probe's order: `per_prompt` for computing."""
        found: dict[tuple[str, str], dict[int, NDArray[np.float64]]] = {}
        for step, marker in self._markers.items():
            for score in marker["scores"]:
                if len(score["values"]):
                    found.setdefault((score["task"], score["metric"]), {})[step] = floats(score["values"])
        return found

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a sample of every step; `cut` says that a size limit shortened the text, or left it out (None)."""
        import pandas as pd

        names = ("task", "prompt_id", "index", "text", "reasoning", "finish", "n_tokens", "answered")
        columns: dict[str, list[Any]] = {name: [] for name in ("step", *names, "correct", "reason", "cut")}
        for step, marker in self._markers.items():
            try:
                rows = read_samples(self.folder, step, marker=marker)
            except ValueError as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
                continue
            for name, column in columns.items():
                column += [step] * len(rows) if name == "step" else [row.get(name) for row in rows]
        # Objects and no strings of pandas, which have no room for the lone surrogate that a tokenizer let through.
        free = {name: pd.Series(columns[name], dtype=object) for name in ("text", "reasoning", "reason")}
        return pd.DataFrame(columns | free)

    def _with_between(self, markers: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """With what was measured between snapshots, in the order of steps; what is damaged there is left out."""
        folder, found = self.folder / BETWEEN, dict(markers)
        for step in list_steps(folder):
            try:
                found.setdefault(step, read_marker(folder, step))
            except ValueError as error:
                warnings.warn(f"left out: {error}", stacklevel=3)
        return dict(sorted(found.items()))

    @property
    def _segment(self) -> dict[int, dict[str, Any]]:
        """The snapshots that are compared with the reference that now holds."""
        markers = {step: {**marker} for step, marker in self._markers.items()}
        if segments := self.manifest.get("segments"):
            first = segments[-1].get("reference_step", math.inf)
            for step, marker in markers.items():
                if step < first:
                    marker |= {"changes": [], "decomposition": {}}
        return markers

    @cached_property
    def _markers(self) -> dict[int, dict[str, Any]]:
        markers = {}
        for step in self.steps:
            try:
                markers[step] = self._checked(read_marker(self.folder, step))
            except ValueError as error:
                self._damaged[step] = str(error)
                warnings.warn(f"left out: {error}", stacklevel=3)
                continue
            for score in markers[step]["scores"]:
                score["values"] = floats(score["values"])  # a tenth of the memory of a list
        return markers

    def _checked(self, marker: dict[str, Any]) -> dict[str, Any]:
        """Raises ValueError where the values of a score are not one for each prompt."""
        prompts = {probe.name: len(probe.prompts) for probe in self.probes}
        for score in marker["scores"]:
            expected, came = prompts.get(score["task"]), len(score["values"])
            if came and expected is not None and came != expected:
                raise ValueError(
                    f"the snapshot of step {marker['step']} is damaged: {marker_path(self.folder, marker['step'])}:"
                    f" {score['task']}/{score['metric']} has {came} values for the {expected} prompts of the manifest"
                )
        return marker


def _verdict(row: dict[str, Any]) -> Verdict | None:
    """None where nothing grades the sample's task, which version 0.1 wrote as a reason."""
    if "correct" not in row or row["reason"] == "no verifier":
        return None
    reason = TRUNCATED if row["reason"] == "cut off before its answer" else row["reason"]
    return Verdict(row["correct"], reason, row["answer"])


def _numbers(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**row, **{name: _number(row[name]) for name in names}}


def _number(value: float | str | None) -> float:
    """The inverse of how strict JSON holds a float: None is NaN, "Infinity" is infinite."""
    return math.nan if value is None else float(value)
