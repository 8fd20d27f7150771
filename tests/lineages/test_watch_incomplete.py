"""Checkpoints that are not whole, are gone, or are written anew."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file
from support import runs, tiny
from support.watching import SAVING, drawn, watch, watcher
from support.watching import run as run
from support.watching import trained as trained

from divmon.lineages.watch.checkpoints import Checkpoint, Loader, NotWhole, found
from divmon.storage.reader import Run, read_run


def later(action: Callable[[], Any], after: float = 0.6) -> threading.Timer:
    timer = threading.Timer(after, action)
    timer.start()
    return timer


def test_a_half_written_checkpoint_is_waited_for(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, weights = run / "checkpoint-30/trainer_state.json", run / "checkpoint-20/model.safetensors"
    said, whole = state.read_bytes(), weights.read_bytes()
    state.unlink()
    weights.write_bytes(whole[:-1000])
    wait = watcher(trained, run, until="trained")
    timers = [later(lambda: weights.write_bytes(whole), 0.8), later(lambda: state.write_bytes(said), 1.2)]
    assert wait.run() == 0
    for timer in timers:
        timer.join()
    assert read_run(run).steps == [10, 20, 30]
    printed = capsys.readouterr().out
    assert printed.count("checkpoint-20 is not whole yet: model.safetensors cannot be opened") == 1
    assert printed.count("checkpoint-30 is not whole yet: trainer_state.json, which is written last") == 1


def test_a_checkpoint_still_growing_is_not_touched(trained: Path, run: Path) -> None:
    files = run / "checkpoint-30"
    stop = time.monotonic() + 1.0
    wait = watcher(trained, run, until="trained")
    begun = []

    def write() -> None:
        while time.monotonic() < stop:
            (files / "optimizer.pt").write_bytes(os.urandom(100))
            begun.append(30 in wait.steps)
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    assert wait.run() == 0
    writer.join()
    assert not any(begun)
    assert read_run(run).steps == [10, 20, 30]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: (c / "trainer_state.json").unlink(), "trainer_state.json, which is written last, is not there"),
        (lambda c: (c / "trainer_state.json").write_text('{"global_'), "trainer_state.json is incomplete"),
        (lambda c: _shard(c)[0].unlink(), "model-00001-of-"),
        (lambda c: _shard(c)[1].write_bytes(b"short"), "model-00002-of-"),
        (lambda c: (_shard(c), (c / "model.safetensors.index.json").write_text("{")), "index.json is incomplete"),
    ],
)
def test_what_is_missing_is_said(trained: Path, run: Path, spoil: Callable[[Path], Any], reason: str) -> None:
    checkpoint = Checkpoint(10, run / "checkpoint-10")
    checkpoint.check()
    spoil(checkpoint.path)
    with pytest.raises(NotWhole, match=reason):
        checkpoint.check()


def _shard(path: Path) -> list[Path]:
    """The same weights in several files with an index."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    (path / "model.safetensors").unlink()
    model.save_pretrained(path, max_shard_size="60KB")
    return sorted(path.glob("model-*.safetensors"))


def test_shards_are_one_model(trained: Path, run: Path) -> None:
    assert len(_shard(run / "checkpoint-20")) > 2
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 0
    assert repr(drawn(read_run(run))) == repr(drawn(read_run(trained / "run")))


def test_a_checkpoint_deleted_before_its_turn_leaves_a_recorded_gap(trained: Path, run: Path) -> None:
    wait = watcher(trained, run, until="trained")
    wait._look()
    shutil.rmtree(run / "checkpoint-20")
    assert wait.run() == 3
    seen = read_run(run)
    assert seen.steps == [10, 30]
    assert seen.manifest["failures"] == [{"step": 20, "reason": "deleted before it was measured"}]


class Spoiling(Loader):
    """Real loading, with something that happens just before."""

    before: Callable[[Path], Any] = staticmethod(lambda path: None)

    def model(self, name: str | Path) -> Any:
        type(self).before(Path(name))
        return super().model(name)


def test_a_checkpoint_deleted_while_it_is_loaded(trained: Path, run: Path) -> None:
    class Deleting(Spoiling):
        before = staticmethod(lambda path: shutil.rmtree(path) if path.name == "checkpoint-20" else None)

    assert watcher(trained, run, Deleting("cpu"), until="measured").run() == 3
    (failure,) = read_run(run).manifest["failures"]
    assert failure["step"] == 20
    assert "deleted or changed while it was read" in failure["reason"]
    assert read_run(run).steps == [10, 30]


def test_what_fails_is_tried_once_more_and_the_others_go_on(
    trained: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    class Failing(Spoiling):
        @staticmethod
        def before(path: Path) -> None:
            tried.append(path.name)
            if path.name == "checkpoint-20" or (path.name == "checkpoint-10" and tried.count(path.name) == 1):
                raise RuntimeError("no memory")

    assert watcher(trained, run, Failing("cpu"), until="measured").run() == 3
    assert tried == [f"checkpoint-{n}" for n in (10, 20, 10, 20, 30)]
    seen = read_run(run)
    assert seen.steps == [10, 30]
    assert seen.manifest["failures"] == [{"step": step, "reason": "RuntimeError: no memory"} for step in (10, 20)]
    assert seen.problems.failed == (20,)
    assert seen.manifest["reference_step"] == 10
    assert "checkpoint-20 could not be measured, to be tried once more: RuntimeError" in capsys.readouterr().out
    assert watcher(trained, run, until="measured").run() == 0, "started again it has new tries"
    seen = read_run(run)
    assert (seen.steps, seen.problems.failed, seen.manifest["reference_step"]) == ([10, 20, 30], (), 10)
    assert len(seen.manifest["failures"]) == 2, "the record keeps them"
    assert not (run / "_divmon_watch/superseded").exists()


def test_the_reference_stays_the_first_that_was_measured(trained: Path, run: Path) -> None:
    (run / "checkpoint-10").rename(run / "waits")
    assert watch(trained, run, "--once") == 0
    (run / "waits").rename(run / "checkpoint-10")
    assert watch(trained, run, "--once") == 0
    seen = read_run(run)
    assert (seen.steps, seen.manifest["reference_step"]) == ([10, 20, 30], 20)
    assert seen.samples.groupby("step").size().to_dict() == {10: 8, 20: 16, 30: 8}
    assert set(seen.changes.step) == {10, 30}
    assert not (run / "_divmon_watch/superseded").exists(), "what was measured stays, whatever step comes next"


def test_models_that_complete_no_text_are_named(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reward = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**tiny.COMMON, num_labels=1))
    reward.save_pretrained(run / "checkpoint-20")
    weights = run / "checkpoint-30/model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if "layers.3.mlp.up" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    assert watch(trained, run, "--once") == 3
    assert {f["step"]: f["reason"] for f in read_run(run).manifest["failures"]} == {
        20: "holds a LlamaForSequenceClassification, which completes no text",
        30: "lacks weights of Olmo3ForCausalLM: model.layers.3.mlp.up_proj.weight",
    }


def test_how_it_asks_is_said(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process of its own cannot look at the rows of training for what the model is spoken to in."""
    template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<eos>{% endfor %}"
    for checkpoint in found(run):
        tiny.tokenizer(runs.TEXTS, chat_template=template).save_pretrained(checkpoint.path)
    assert watch(trained, run, "--once") == 0
    printed = capsys.readouterr().out
    assert "a prompt as the model sees it: '<|im_start|>what is 0 plus 0?<eos>'" in printed
    assert "prompts are rendered through the chat template: there is a chat template, and no training row" in printed
    assert "set chat=False (--divmon_chat false)" in printed
    assert watch(trained, run, "--once", "--divmon_chat", "false", "--divmon_output_dir", str(run / "plain")) == 0
    printed = capsys.readouterr().out
    assert "a prompt as the model sees it: 'what is 0 plus 0?'" in printed
    assert "through the chat template" not in printed


def test_what_training_writes_anew_is_measured_anew(trained: Path, run: Path) -> None:
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 0
    before = drawn(read_run(run))
    model = transformers.AutoModelForCausalLM.from_pretrained(trained / "base")
    runs.sft(run, [], model, max_steps=40, learning_rate=3e-3, **SAVING).train(str(run / "checkpoint-10"))
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 0
    seen = drawn(read_run(run))
    assert list(seen) == [0, 10, 20, 30, 40]
    assert repr([seen[0], seen[10]]) == repr([before[0], before[10]])
    assert repr(seen[20]) != repr(before[20])
    (aside,) = (run / "_divmon_watch/superseded").iterdir()
    assert sorted(file.name for file in aside.glob("*.json")) == ["00000020.json", "00000030.json"]


def test_a_training_begun_anew_is_a_new_run_while_watch_goes_on(trained: Path, run: Path) -> None:
    wait = watcher(trained, run, until="measured")
    assert wait.run() == 0
    for checkpoint in found(run):
        shutil.rmtree(checkpoint.path)
    model = transformers.AutoModelForCausalLM.from_pretrained(trained / "base")
    runs.sft(run, [], model, learning_rate=3e-3, max_steps=20, **SAVING).train()
    assert wait.run() == 0
    seen = read_run(run)
    assert (seen.steps, seen.manifest["reference_step"]) == ([10, 20], 10)
    assert set(seen.samples.groupby("step").size()) == {16, 8}
    (aside,) = run.glob("_divmon_watch-*")
    assert Run(aside, {}).steps == [10, 20, 30]
