"""Curves and tables in TensorBoard, read back with its own reader; the host's curves stay as they were."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from support.hosts import PROBE, Measures, snapshot, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainingArguments
from transformers.integrations import TensorBoardCallback

from divmon.loggers.tensorboard import tensorboard
from divmon.loggers.tensorboard_table import of_training

CLOCK = ("train/train_runtime", "train/train_samples_per_second", "train/train_steps_per_second")


def events(folder: Path | str) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def curve(log: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    """By step: of files made in one second the reader takes the tenth before the ninth."""
    return sorted((event.step, round(event.value, 5)) for event in log.Scalars(tag))


def host_curves(log: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    return {tag: curve(log, tag) for tag in log.Tags()["scalars"] if tag.startswith("train/") and tag not in CLOCK}


def host_folder(folder: Path) -> Path:
    (found,) = (path for path in (folder / "runs").iterdir() if path.name != "divmon")
    return found


def measures(said: list[str], folder: Path, **options: Any) -> Measures:
    return Measures(lambda callbacks, *_: tensorboard(folder, callbacks, say=said.append), **options)


def test_into_the_hosts_writer_beside_its_own_curves(tmp_path: Path) -> None:
    said: list[str] = []
    train(tmp_path / "with", ["tensorboard"], [measures(said, tmp_path / "with")])
    train(tmp_path / "without", ["tensorboard"], [])
    folder = host_folder(tmp_path / "with")
    assert len(list(folder.iterdir())) == 1 and said == []
    log = events(folder)
    assert curve(log, "Diversity/gsm8k/sbert") == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert curve(log, "Diversity/gsm8k/sbert_change") == [(0, 0.0), (2, -0.02), (4, -0.04)]
    assert curve(log, "Diversity/gsm8k/sbert_change_low") == [(0, 0.0), (2, -0.2), (4, -0.2)]
    host = host_curves(log)
    assert len(host["train/loss"]) == 4
    assert host == host_curves(events(host_folder(tmp_path / "without")))
    table = log.Tensors("divmon/gsm8k/samples/text_summary")
    assert [event.step for event in table] == [0, 2, 4]
    assert b"answer 0" in table[-1].tensor_proto.string_val[0]


def test_a_run_shows_six_curves_a_task_and_one_picture(tmp_path: Path) -> None:
    train(tmp_path, ["tensorboard"], [measures([], tmp_path)])
    tags = EventAccumulator(str(host_folder(tmp_path))).Reload().Tags()
    levels = ["Diversity/gsm8k/sbert"]  # of three prompts; ead is undefined here
    changes = [f"Diversity/gsm8k/sbert_change{end}" for end in ("", "_low", "_high")]
    assert sorted(tag for tag in tags["scalars"] if not tag.startswith("train/")) == sorted(levels + changes)
    assert not tags["histograms"] and not [tag for tag in tags["tensors"] if tag.startswith("Diversity")]


def test_the_layout_draws_the_loss_beside_each_change_with_its_bounds(tmp_path: Path) -> None:
    train(tmp_path, ["tensorboard"], [measures([], tmp_path)])
    log = events(host_folder(tmp_path))
    (written,) = log.Tensors("custom_scalars__config__")
    (category,) = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0]).category
    loss, *levels, change = category.chart
    (pattern,) = loss.multiline.tag
    assert [tag for tag in log.Tags()["scalars"] if re.match(pattern, tag)] == ["train/loss"]
    name = "Diversity/gsm8k/sbert_change"
    (band,) = change.margin.series
    assert (band.value, band.lower, band.upper) == (name, f"{name}_low", f"{name}_high")
    titles = [chart.title for chart in (change, *levels)]
    assert titles == ["gsm8k: change of sbert", "gsm8k: diversity (sbert)", "gsm8k: diversity (ead)"]


def test_everything_on_request_with_values_by_prompt_as_histograms(tmp_path: Path) -> None:
    make = Measures(lambda callbacks, *_: tensorboard(tmp_path, callbacks, everything=True, say=print))
    train(tmp_path, ["tensorboard"], [make])
    log = EventAccumulator(str(host_folder(tmp_path)), size_guidance={"histograms": 0}).Reload()
    drawn = log.Histograms("divmon/gsm8k/sbert_by_prompt")
    assert [event.step for event in drawn] == [0, 2, 4]
    last = drawn[-1].histogram_value
    assert (last.num, last.min, round(last.max, 5)) == (3, 0.25, 0.71), "what is undefined is not in them"
    assert not [tag for tag in log.Tags()["histograms"] if "ead" in tag or "truncated" in tag]
    assert "divmon/gsm8k/truncated" in log.Tags()["scalars"]


def table_of(folder: Path) -> tuple[set[str], dict[str, Any]]:
    """Metrics and hyperparameters, as TensorBoard's table has them."""
    found = {}
    (file,) = folder.iterdir()
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                assert value.tag not in found, "written twice"
                found[value.tag] = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    names = {info.name.tag for info in found["_hparams_/experiment"].experiment.metric_infos}
    given = found["_hparams_/session_start_info"].session_start_info.hparams
    return names, {name: getattr(value, value.WhichOneof("kind")) for name, value in given.items()}


def test_what_the_data_came_to_stands_beside_its_composition(tmp_path: Path) -> None:
    """In the open file: the composition as hyperparameters, and the figures whose last values the table shows."""
    trained = of_training(TrainingArguments("x", learning_rate=3e-4, use_cpu=True))
    ours = tensorboard(tmp_path, hparams={"model": str(tmp_path / "base-7b"), **trained}, say=lambda line: None)
    ours.describe({"divmon/data": "| web |"}, {"data/web": 0.75, f"data/{tmp_path}/a.jsonl": 0.25})
    for step in (0, 2):
        ours.log(snapshot(step), [PROBE])
    ours.close()
    names, given = table_of(tmp_path / "runs" / "divmon")
    assert names == {"Diversity/gsm8k/sbert", "Diversity/gsm8k/sbert_change", "Diversity/gsm8k/ead"}
    assert (given["data/web"], given["data/a.jsonl"], given["model"]) == (0.75, 0.25, "base-7b"), "files by name"
    assert (given["learning_rate"], given["tasks"]) == (3e-4, "gsm8k")
    assert curve(events(tmp_path / "runs" / "divmon"), "Diversity/gsm8k/sbert")[-1] == (2, 0.48)


def test_a_loop_without_a_trainer_has_a_row_in_the_table_too(tmp_path: Path) -> None:
    ours = tensorboard(tmp_path, say=lambda line: None)
    ours.log(snapshot(0), [PROBE])
    ours.close()
    assert table_of(tmp_path / "runs" / "divmon")[1] == {"tasks": "gsm8k"}


def test_after_the_host_has_closed_its_writer(tmp_path: Path) -> None:
    train(tmp_path, ["tensorboard"], [measures([], tmp_path, at=(0, 2), late=4)])
    log = events(host_folder(tmp_path))
    assert curve(log, "Diversity/gsm8k/sbert") == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert [step for step, _ in host_curves(log)["train/loss"]] == [1, 2, 3, 4]
    assert not (tmp_path / "runs" / "divmon").exists()


def test_before_the_host_has_begun(tmp_path: Path) -> None:
    """The user lists the callback before a TensorBoardCallback: nothing is lost, and no second writer is opened."""
    train(tmp_path, [], [measures([], tmp_path), TensorBoardCallback()])
    folder = host_folder(tmp_path)
    assert len(list(folder.iterdir())) == 1
    assert curve(events(folder), "Diversity/gsm8k/sbert") == [(0, 0.5), (2, 0.48), (4, 0.46)]


def test_a_writer_that_the_user_made(tmp_path: Path) -> None:
    own = TensorBoardCallback(SummaryWriter(str(tmp_path / "mine")))
    train(tmp_path / "out", [], [own, measures([], tmp_path / "out", at=(0, 2), late=4)])
    log = events(tmp_path / "mine")
    assert curve(log, "Diversity/gsm8k/sbert") == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert len(curve(log, "train/loss")) == 4


def test_a_host_without_tensorboard_gets_a_run_of_ours_and_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    train(tmp_path, [], [measures(said, tmp_path)])
    assert curve(events(tmp_path / "runs" / "divmon"), "Diversity/gsm8k/sbert") == [(0, 0.5), (2, 0.48), (4, 0.46)]
    assert said == [
        f"divmon: no TensorBoard writer to share, so curves go to {tmp_path / 'runs/divmon'}:"
        f" tensorboard --logdir {tmp_path / 'runs'}"
    ]


@pytest.mark.parametrize(("resume", "steps"), [(2, [0, 2, 4, 6]), (None, [4, 6])])
def test_our_own_run_after_a_resume_or_a_fresh_start(tmp_path: Path, resume: int | None, steps: list[int]) -> None:
    """A step measured twice shows once; a fresh start shows nothing of the run before."""
    for start, measured in ((None, (0, 2, 4)), (resume, (4, 6))):
        time.sleep(1.01)  # TensorBoard reads a run's files by the second they were made in
        ours = tensorboard(tmp_path, resume_step=start, say=lambda line: None)
        for step in measured:
            ours.log(snapshot(step), [PROBE])
        ours.close()
    assert [step for step, _ in curve(events(tmp_path / "runs/divmon"), "Diversity/gsm8k/sbert")] == steps


def test_our_own_run_goes_on_after_close(tmp_path: Path) -> None:
    said: list[str] = []
    ours = tensorboard(tmp_path, say=said.append)
    for step in (0, 2):
        time.sleep(1.01)  # as above
        ours.log(snapshot(step), [PROBE])
        ours.close()
    assert curve(events(tmp_path / "runs/divmon"), "Diversity/gsm8k/sbert") == [(0, 0.5), (2, 0.48)]
    assert len(said) == 1
