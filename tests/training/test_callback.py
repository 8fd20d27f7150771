"""The callback in real training runs: its curves, failures that do not end a run, resuming."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import divmon
from divmon import DiversityCallback, DiversityMonitor, Probe, Prompt
from divmon.storage.writer import read_run


def quiet(**options: Any) -> dict[str, Any]:
    return {**runs.CHEAP, "progress": False, "on_error": "raise", **options}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("make", [runs.sft, runs.plain_trainer])
def test_curves_stand_in_the_hosts_own_tensorboard_and_its_loss_is_intact(
    tmp_path: Path, make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer_seen = []
    for name, callbacks in {"with": [DiversityCallback(runs.PROBES, **quiet())], "without": []}.items():
        os.environ.pop("TENSORBOARD_LOGGING_DIR", None)
        trainer = make(tmp_path / name, callbacks, report_to="tensorboard")
        trainer.train()
        tokenizer_seen.append(trainer.processing_class.padding_side)
    files = [f for f in (tmp_path / "with").rglob("events.out.tfevents*") if f.parent.parent.name != "_divmon"]
    assert len({f.parent for f in files}) == 1, "no second run beside the host's"
    seen, host = scalars(files[0].parent), scalars(next((tmp_path / "without").rglob("events.out*")).parent)
    for tag, values in host.items():
        if not any(word in tag for word in runs.WALL_CLOCK):
            assert seen[tag] == values, tag
    assert [step for step, _ in seen["train/loss"]] == [5, 10, 15, 20, 25, 30]
    assert [step for step, _ in seen["Diversity/prompts/ead"]] == [0, 10, 20, 30]
    assert [step for step, _ in seen["Diversity/prompts/ead_change"]] == [0, 10, 20, 30], "from 0 at the reference"
    run = read_run(tmp_path / "with")
    means = run.scores[run.scores.metric == "ead"].set_index("step")["mean"]
    for step, value in seen["Diversity/prompts/ead"]:
        assert value == pytest.approx(means[step], rel=1e-6)
    printed = capsys.readouterr().out
    assert "divmon: one measurement = 8 completions, up to 64 tokens: at most" in printed
    assert re.search(r"divmon: the reference took .* from here on one measurement: at most .* % of training", printed)
    assert "a prompt as the model sees it: 'what is 0 plus 0?'" in printed
    assert "divmon: paired change since the reference, at step 30" in printed
    assert tokenizer_seen[0] == tokenizer_seen[1]


def test_every_snapshot_is_stored_with_what_took_effect(tmp_path: Path) -> None:
    callback = DiversityCallback(runs.PROBES, **quiet(seed=5, temperature=0.8))
    trainer = runs.sft(tmp_path, [callback])
    trainer.train()
    run = read_run(tmp_path / "_divmon")
    assert sorted(run.samples.step.unique()) == [0, 10, 20, 30]
    counts = run.samples.groupby(["step", "prompt_id"]).size()
    assert set(counts[0]) == {4}, "the reference draws more"
    assert set(counts[[10, 20, 30]]) == {2}
    snapshot = callback_store(tmp_path).read(20)
    assert snapshot.provenance["decoding"]["prompts"] == {
        "max_new_tokens": 8, "temperature": 0.8, "top_p": 0.95, "stop": [],
    }  # fmt: skip
    for key in ("seed", "num_samples", "sampler", "sampler_reason", "tokens_drawn", "seconds", "share_of_run", "epoch"):
        assert snapshot.provenance[key] is not None, key
    assert run.manifest["model"] == "tiny"
    assert run.manifest["versions"]["divmon"] == divmon.__version__
    assert 0 < run.manifest["seconds"]["monitor"] < run.manifest["seconds"]["run"]
    assert run.manifest["price"]["completions"] == 8


def callback_store(output_dir: Path) -> Any:
    from divmon.storage.writer import Store

    return Store(output_dir / "_divmon")


def test_added_after_construction_and_named(tmp_path: Path) -> None:
    for name, given in {"late": False, "named": True}.items():
        trainer = runs.sft(tmp_path / name, max_steps=2, report_to="tensorboard")
        callback = DiversityCallback(runs.PROBES, trainer=trainer if given else None, **quiet(every=2))
        trainer.add_callback(callback)
        os.environ.pop("TENSORBOARD_LOGGING_DIR", None)
        trainer.train()
        assert read_run(tmp_path / name).scores.step.nunique() == 2


def test_an_early_stop_is_measured_though_the_budget_had_passed_its_step_over(tmp_path: Path) -> None:
    ours = DiversityCallback(runs.PROBES, **quiet(every=4, max_overhead=1e-6))
    runs.sft(tmp_path, [ours, runs.StopAt(8)], max_steps=20).train()
    assert read_run(tmp_path).steps == [0, 8]


def test_the_trainer_is_found_without_its_frame(tmp_path: Path) -> None:
    """Called from a place with no trainer in sight, what refers to the callback leads to it."""
    from divmon.training.trainer_access import _referrers, find_trainer

    callback = DiversityCallback(runs.PROBES, **quiet())
    assert find_trainer(callback) is None
    trainer = runs.sft(tmp_path, [callback])
    assert trainer in [found for found in _referrers(callback) if hasattr(found, "callback_handler")]
    assert find_trainer(callback) is trainer


def test_the_frame_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking through every object of the process takes a good part of a second."""

    def never(callback: Any) -> Iterator[Any]:
        yield pytest.fail("the trainer's frame was enough")

    monkeypatch.setattr("divmon.training.trainer_access._referrers", never)
    runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **quiet())], max_steps=1).train()
    assert read_run(tmp_path).steps == [0, 1]


def test_no_trainer_still_measures_into_a_run_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loop that only imitates the hooks: the handler is no trainer's."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    model, tokenizer = runs.model(), tiny.tokenizer(runs.TEXTS)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    state, control = TrainerState(max_steps=20, is_world_process_zero=True), TrainerControl()
    callback = DiversityCallback(runs.PROBES, tokenizer=tokenizer, **quiet())
    callback.on_train_begin(args, state, control, model=model)
    for step in range(1, 21):
        state.global_step = step
        callback.on_step_end(args, state, control, model=model)
    callback.on_train_end(args, state, control, model=model)
    assert "found no trainer" in capsys.readouterr().out
    seen = scalars(next((tmp_path / "runs").rglob("events.out*")).parent)
    assert [step for step, _ in seen["Diversity/prompts/ead"]] == [0, 10, 20]


def test_a_plain_loop_measures_when_it_likes(tmp_path: Path) -> None:
    model, tokenizer = runs.model(), tiny.tokenizer(runs.TEXTS)
    monitor = DiversityMonitor(runs.PROBES, output_dir=str(tmp_path / "divmon"), **quiet())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = tokenizer(runs.TEXTS[:4], padding=True, return_tensors="pt")["input_ids"]
    for step in range(3):
        snapshot = monitor.measure(model, tokenizer, step)
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert snapshot.score("prompts", "ead").n == 4
    monitor.close()
    assert sorted(read_run(tmp_path / "divmon").changes.step.unique()) == [1, 2]
    assert model.training
    (curves,) = tmp_path.rglob("events.out*")
    assert curves.parent == tmp_path / "divmon/runs/divmon", "not shared with other folders of tmp_path"


def test_a_failure_is_recorded_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A metric of the user's that always fails, and a store that vanishes in the middle of the run."""
    metric = tmp_path / "broken.py"
    metric.write_text("def broken(lengths_PK):\n    return 1 / 0\n")
    own = {"on_error": "warn", "output_dir": str(tmp_path / "store"), "metrics": f"ead,{metric}:broken"}
    callback = DiversityCallback(runs.PROBES, **{**quiet(every=10), **own})
    trainer = runs.sft(tmp_path / "run", [callback, Blocks(tmp_path / "store", at=15)])
    trainer.train()
    assert trainer.state.global_step == 30
    assert len([row for row in trainer.state.log_history if "loss" in row]) == 6
    assert [step for step, _ in callback.failures] == [20, 30]
    assert "training goes on" in caplog.text
    assert sorted(read_run(tmp_path / "store").scores.step.unique()) == [0, 10]
    assert "ZeroDivisionError" in callback.monitor.reference.provenance["left_out"]["prompts/broken"]
    curves = scalars(next((tmp_path / "run" / "runs").rglob("events.out*")).parent)
    assert [step for step, _ in curves["Diversity/prompts/ead"]] == [0, 10, 20, 30], "the disk failed, not the curves"


from transformers import TrainerCallback  # noqa: E402


class Blocks(TrainerCallback):
    """Takes the store's folder away in the middle of the run, as a full or vanished disk would."""

    def __init__(self, store: Path, at: int) -> None:
        self.store, self.at = store, at

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.at:
            (self.store / "snapshots").rename(self.store / "kept")
            (self.store / "snapshots").write_text("in the way")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (self.store / "snapshots").unlink()
        (self.store / "kept").rename(self.store / "snapshots")


@pytest.mark.parametrize(
    ("probes", "options", "error", "message"),
    [
        ("gsm9k", {}, ValueError, "gsm8k"),
        ("nowhere.jsonl", {}, ValueError, "nowhere.jsonl"),
        (runs.PROBES, {"metrics": "vendy"}, ValueError, "no metric named 'vendy'"),
        (runs.PROBES, {"metrics": "sbert", "embedder": "no/such-encoder"}, ValueError, "no/such-encoder"),
        (runs.PROBES, {"chat": True}, ValueError, "no chat template"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_step(
    tmp_path: Path, probes: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    trainer = None
    with pytest.raises((error, OSError, RuntimeError), match=message):
        trainer = runs.sft(tmp_path, [DiversityCallback(probes, **{**quiet(), "on_error": "warn", **options})])
        trainer.train()
    assert trainer is None or trainer.state.global_step == 0


def test_an_unknown_option_is_named_when_the_callback_is_built() -> None:
    with pytest.raises(TypeError, match="no option named 'num_sample'; did you mean 'num_samples'"):
        DiversityCallback(num_sample=8)


def test_streamed_training_data_is_never_measured_nor_iterated(tmp_path: Path) -> None:
    from datasets import Dataset

    trainer = runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **quiet())], max_steps=4)
    stream = trainer.train_dataset.to_iterable_dataset()
    plain = runs.sft(tmp_path / "plain", max_steps=4)
    plain.train_dataset = Dataset.from_list(list(trainer.train_dataset)).to_iterable_dataset()
    trainer.train_dataset = stream
    counted = []
    original = type(stream).__iter__

    def counting(self: Any) -> Any:
        counted.append(1)
        return original(self)

    type(stream).__iter__ = counting  # type: ignore[method-assign]
    try:
        trainer.train()
        with_monitor = len(counted)
        counted.clear()
        plain.train()
    finally:
        type(stream).__iter__ = original  # type: ignore[method-assign]
    assert with_monitor == len(counted)
    assert read_run(tmp_path).scores.step.nunique() == 2


def test_evaluation_prompts_and_probes_of_ones_own(tmp_path: Path) -> None:
    probe = Probe("mine", (Prompt("a", "what is one plus one?"), Prompt("b", ({"role": "user", "content": "what?"},))))
    trainer = runs.sft(tmp_path / "a", [DiversityCallback([probe, "eval"], **quiet(num_prompts=4))], max_steps=2)
    trainer.train()
    assert set(read_run(tmp_path / "a").scores.task) == {"mine", "eval"}


def test_without_a_start_the_first_look_is_the_reference(tmp_path: Path) -> None:
    callback = DiversityCallback(runs.PROBES, **quiet(at_start=False))
    runs.sft(tmp_path, [callback], max_steps=20).train()
    run = read_run(tmp_path)
    assert sorted(run.scores.step.unique()) == [10, 20]
    assert set(run.samples[run.samples.step == 10].groupby("prompt_id").size()) == {4}
    assert set(run.changes.step) == {20}


def test_a_random_transform_of_the_training_data_does_not_run(tmp_path: Path) -> None:
    """Reading a row through it would move the generators that training draws from."""
    trainer = runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **quiet())], max_steps=2)
    seen = []

    def transform(rows: dict[str, Any]) -> dict[str, Any]:
        seen.append(torch.rand(1).item())
        return rows

    trainer.train_dataset.set_transform(transform)
    callback = trainer.callback_handler.callbacks[-2]
    from divmon.training.trainer_access import readable_rows

    assert isinstance(callback, DiversityCallback)
    assert readable_rows(trainer.train_dataset)
    assert not seen


def test_an_early_stop_is_measured_as_the_end(tmp_path: Path) -> None:
    trainer = runs.sft(
        tmp_path, [DiversityCallback(runs.PROBES, **quiet(every=None)), runs.StopAt(7)], report_to="tensorboard"
    )
    os.environ.pop("TENSORBOARD_LOGGING_DIR", None)
    trainer.train()
    assert sorted(read_run(tmp_path).scores.step.unique()) == [0, 7]


def test_a_second_run_in_the_same_directory_keeps_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **quiet())], max_steps=2).train()
    kept = [p for p in tmp_path.iterdir() if p.name.startswith("_divmon")]
    assert len(kept) == 2
    assert all(read_run(p).scores.step.nunique() == 2 for p in kept)


def test_importing_divmon_loads_neither_torch_nor_transformers() -> None:
    code = "import divmon, sys; assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_logged_warnings_are_one_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="divmon"):
        runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **quiet())], max_steps=2).train()
    assert not [r for r in caplog.records if r.name == "divmon"], "a sound run warns of nothing"


def test_a_later_stage_goes_on_with_the_line_of_the_first(tmp_path: Path) -> None:
    line = str(tmp_path / "line" / "_divmon")
    first = runs.sft(tmp_path / "sft", [DiversityCallback(runs.PROBES, **runs.CHEAP, output_dir=line, stage="sft")])
    first.train()
    later = DiversityCallback(runs.PROBES, **runs.CHEAP, output_dir=line, stage="dpo", first_step=30)
    runs.sft(tmp_path / "dpo", [later], trained=first.model, max_steps=20).train()
    run = read_run(tmp_path / "line")
    assert run.steps == [0, 10, 20, 30, 40, 50]
    stages = {step: facts["stage"] for step, facts in run.provenance.items()}
    assert stages == {0: "sft", 10: "sft", 20: "sft", 30: "sft", 40: "dpo", 50: "dpo"}
    base = run.scores.query("step == 0 and metric == 'ead'")["mean"].item()
    last = run.changes.query("step == 50 and metric == 'ead'")
    assert last["reference"].item() == pytest.approx(base), "the reference is the base, through all stages"
    assert run.manifest["resumed"][0]["options"]["stage"] == "dpo"
