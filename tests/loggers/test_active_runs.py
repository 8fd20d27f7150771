"""Runs that a plain loop has opened itself: they get our figures, and keep their own rows and steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.hosts import PROBE, snapshot
from support.trackers_read import local_trackers, mlflow_metrics, trackio_rows, wandb_rows

from divmon.loggers.active_runs import active_runs

CLOCK = ("_timestamp", "_runtime", "timestamp")


def loop(log: Any, *, steps: bool, logger: active_runs | None) -> None:
    """A program's own loop: it logs a loss at each of four steps, with or without naming the step."""
    for step in range(4):
        if logger is not None and step % 2 == 0:
            logger.log(snapshot(step, changed=step > 0), [PROBE])
        log({"loss": 1.0 - step / 8}, **({"step": step} if steps else {}))
    if logger is not None:
        logger.log(snapshot(4), [PROBE])


def host_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = (
        {k: v for k, v in row.items() if not k.startswith(("divmon", "Diversity")) and k not in CLOCK} for row in rows
    )
    return [row for row in kept if "loss" in row]


@pytest.mark.parametrize("steps", [True, False])
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: bool) -> None:
    import wandb

    said: list[str] = []
    rows = {}
    for name, logger in (("with", active_runs(say=said.append)), ("without", None)):
        local_trackers(tmp_path / name, monkeypatch)
        with wandb.init(project="loop") as run:
            loop(run.log, steps=steps, logger=logger)
        rows[name] = wandb_rows(tmp_path / name)
    ours = [(row["divmon/step"], row["Diversity/gsm8k/sbert"]) for row in rows["with"] if "divmon/step" in row]
    assert ours == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert [row["loss"] for row in host_rows(rows["with"])] == [1.0, 0.875, 0.75, 0.625]
    assert host_rows(rows["with"]) == host_rows(rows["without"]) and said == []


def test_wandb_says_once_what_it_cannot_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program logs by epoch, from 0: a row of ours would make W&B drop its rows, so the last measurement stays."""
    import wandb

    said: list[str] = []
    local_trackers(tmp_path, monkeypatch)
    logger = active_runs(say=said.append)
    with wandb.init(project="loop") as run:
        for epoch in range(2):
            for step in (0, 1):
                logger.log(snapshot(10 * epoch + step), [PROBE])
            run.log({"loss": float(epoch)}, step=epoch)
    rows = wandb_rows(tmp_path)
    assert [(row["_step"], row["loss"], row.get("divmon/step")) for row in rows] == [(0, 0.0, 11), (1, 1.0, None)]
    assert len(said) == 1 and "W&B shows only the last" in said[0]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    uri = local_trackers(tmp_path, monkeypatch)
    logger = active_runs()
    logger.log(snapshot(9), [PROBE])  # no run yet, and none is opened for us
    with mlflow.start_run():
        loop(mlflow.log_metrics, steps=True, logger=logger)
    metrics = mlflow_metrics(uri)
    assert metrics["Diversity/gsm8k/sbert"] == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert metrics["Diversity/gsm8k/sbert_change"] == [(2, -0.02), (4, -0.04)]
    assert metrics["loss"] == [(0, 1.0), (1, 0.875), (2, 0.75), (3, 0.625)]


@pytest.mark.parametrize("steps", [True, False])
def test_trackio(tmp_path: Path, steps: bool) -> None:
    import trackio

    project = f"{tmp_path.name}-{steps}"
    trackio.init(project=project, embed=False)
    loop(trackio.log, steps=steps, logger=active_runs())
    trackio.finish()
    active_runs().log(snapshot(9), [PROBE])
    rows = trackio_rows(project)
    assert [(row["divmon/step"], row["Diversity/gsm8k/sbert"]) for row in rows if "divmon/step" in row] == [
        (0, 0.5),
        (2, 0.48),
        (4, 0.46),
    ]
    assert [(row["step"], row["loss"]) for row in host_rows(rows)] == [(0, 1.0), (1, 0.875), (2, 0.75), (3, 0.625)]


def test_a_tracker_that_fails_is_named_once_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    local_trackers(tmp_path, monkeypatch)
    said: list[str] = []
    logger = active_runs(say=said.append)
    with pytest.raises(Exception, match="does not exist"), mlflow.start_run():
        shutil.rmtree(tmp_path / "mlruns")
        for step in (0, 2):
            logger.log(snapshot(step), [PROBE])
    assert len(said) == 1 and said[0].startswith("divmon: no longer logging to mlflow: ")


def test_no_tracker_is_imported() -> None:
    code = """
import sys
from divmon.loggers.active_runs import active_runs
from divmon.types import Score, Snapshot
active_runs().log(Snapshot(0, [], scores=[Score("t", "sbert", 0.5)]), [])
print(sorted({"wandb", "mlflow", "trackio"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
