"""W&B, MLflow and trackio through the trainer's own callbacks, each read back by its own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.hosts import PROBE, Listens, Measures, snapshot, train
from support.trackers_read import local_trackers, mlflow_metrics, trackio_rows, wandb_rows
from transformers import PrinterCallback, ProgressCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import DVCLiveCallback, MLflowCallback, TensorBoardCallback, WandbCallback

from divmon.loggers.trackers import is_tracker, trackers

CLOCK = {"_timestamp", "_runtime", "_step", "timestamp"}


def plain(row: dict[str, Any], *clock: str) -> dict[str, Any]:
    return {
        name: value for name, value in row.items() if name not in CLOCK and not name.endswith(("_runtime", "_second"))
    }


def is_ours(row: dict[str, Any]) -> bool:
    return any("Diversity" in name for name in row)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same training with the logger and without, to three trackers and TensorBoard at once."""
    import wandb

    found: dict[str, Any] = {}
    for name in ("with", "without"):
        with pytest.MonkeyPatch.context() as monkeypatch:
            folder = tmp_path_factory.mktemp(name)
            uri = local_trackers(folder, monkeypatch)
            project, said, listener = folder.name, [], Listens()
            measures = Measures(lambda *host, said=said: trackers(*host, say=said.append), late=5)
            trainer = train(
                folder / "out",
                ["wandb", "mlflow", "trackio", "tensorboard"],
                [listener, measures] if name == "with" else [listener],
                project=project,
            )
            wandb.finish()
            found[name] = {
                "wandb": wandb_rows(folder),
                "mlflow": mlflow_metrics(uri),
                "trackio": trackio_rows(project),
                "said": said,
                "heard": listener.heard,
                "history": trainer.state.log_history,
                "names": measures.logger.names if name == "with" else None,
            }
    return found


def test_wandb_has_the_curves_and_the_hosts_rows(runs: dict[str, Any]) -> None:
    ours = [row for row in runs["with"]["wandb"] if is_ours(row)]
    assert [(row["train/global_step"], row["train/Diversity/gsm8k/sbert"]) for row in ours] == [
        (0, 0.5),
        (2, 0.48),
        (4, 0.46),
        (5, 0.45),
    ]
    assert ours[1]["train/Diversity/gsm8k/sbert_change_low"] == -0.2
    host = [plain(row) for row in runs["with"]["wandb"] if not is_ours(row)]
    assert sum("train/loss" in row for row in host) == 4
    assert host == [plain(row) for row in runs["without"]["wandb"]]


def test_mlflow_has_the_curves_and_the_hosts_rows(runs: dict[str, Any]) -> None:
    metrics = runs["with"]["mlflow"]
    assert metrics["Diversity/gsm8k/sbert"] == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert metrics["Diversity/gsm8k/sbert_change"] == [(2, -0.02), (4, -0.04)]
    host = plain({name: values for name, values in metrics.items() if "Diversity" not in name})
    assert len(host["loss"]) == 4 and host == plain(runs["without"]["mlflow"])


def test_trackio_has_the_curves_and_the_hosts_rows_at_their_steps(runs: dict[str, Any]) -> None:
    rows = runs["with"]["trackio"]
    ours = [(row["train/global_step"], row["train/Diversity/gsm8k/sbert"]) for row in rows if is_ours(row)]
    assert ours == [(0, 0.5), (2, 0.48), (4, 0.46)]
    host = [plain(row) for row in rows if not is_ours(row)]
    assert [row["step"] for row in host] == [0, 1, 2, 3, 4]
    assert host == [plain(row) for row in runs["without"]["trackio"]]


def test_nobody_else_hears_of_it(runs: dict[str, Any]) -> None:
    """Neither a user's callback nor the trainer's own history, which checkpoints and the console are made from."""
    for name in ("heard", "history"):
        rows = [plain(row) for row in runs["with"][name]]
        assert sum("loss" in row for row in rows) == 4
        assert rows == [plain(row) for row in runs["without"][name]]


def test_a_run_that_the_host_has_closed_is_not_opened_again(runs: dict[str, Any]) -> None:
    """The readers above found one run each; the logger said which trackers it had to leave out."""
    assert sorted(runs["with"]["said"]) == [
        f"divmon: no longer logging to {name}: RuntimeError: the trainer has closed its run"
        for name in ("MLflow", "Trackio")
    ]
    assert runs["with"]["names"] == ["Wandb"]


def test_a_tracker_that_fails_is_named_once_and_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlruns").write_text("a file where MLflow wants a folder")
    local_trackers(tmp_path, monkeypatch)
    said: list[str] = []
    args = TrainingArguments(str(tmp_path / "out"), report_to=[], use_cpu=True)
    logger = trackers([MLflowCallback()], args, TrainerState(), TrainerControl(), say=said.append)
    for step in (0, 2):
        logger.log(snapshot(step), [PROBE])
    assert len(said) == 1 and said[0].startswith("divmon: no longer logging to MLflow: ")
    assert logger.names == []


def test_only_the_librarys_own_trackers_are_called() -> None:
    class Renamed(WandbCallback):
        pass

    class Changed(WandbCallback):
        def on_log(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("a user's code")

    made = [MLflowCallback(), WandbCallback(), Renamed()]
    others = [
        kind.__new__(kind)
        for kind in (TensorBoardCallback, DVCLiveCallback, PrinterCallback, ProgressCallback, Listens, Changed)
    ]
    assert all(map(is_tracker, made)) and not any(map(is_tracker, others))
