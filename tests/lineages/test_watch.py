"""`divmon watch` beside real training: checkpoints as they come, half-written, deleted, in pieces, written anew."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support import runs, tiny

from divmon import DiversityCallback, DiversityMonitor
from divmon.cli import watch as watch_command
from divmon.lineages.watch import Watch
from divmon.lineages.watch.checkpoints import Checkpoint, Loader, NotWhole, Unusable, found
from divmon.storage.reader import Run, read_run

CHEAP = {**runs.CHEAP, "progress": False}
SAVING = {"save_strategy": "steps", "save_steps": 10}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """base/, probes.jsonl, divmon.yaml, and run/ with checkpoints 10, 20, 30 and what the callback saw of them."""
    folder = tmp_path_factory.mktemp("trained")
    runs.model().save_pretrained(folder / "base")
    tiny.tokenizer(runs.TEXTS).save_pretrained(folder / "base")
    (folder / "probes.jsonl").write_text("\n".join(json.dumps(row) for row in runs.PROBES))
    (folder / "divmon.yaml").write_text(json.dumps({"probes": str(folder / "probes.jsonl"), **CHEAP}))
    callback = DiversityCallback(str(folder / "probes.jsonl"), **CHEAP)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    runs.sft(folder / "run", [callback], model, **SAVING).train()
    gc.freeze()  # each measurement ends with a collection, which would look at all that is imported here
    yield folder
    gc.unfreeze()


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run's checkpoints, to be spoilt."""
    for checkpoint in found(trained / "run"):
        shutil.copytree(checkpoint.path, tmp_path / "run" / checkpoint.path.name)
    return tmp_path / "run"


def watch(trained: Path, output_dir: Path, *words: str) -> int:
    """The command, in this process."""
    return watch_command.main(
        [str(output_dir), "--config", str(trained / "divmon.yaml"), "--device", "cpu", "--poll", "0.05", *words]
    )


def watcher(trained: Path, output_dir: Path, loader: Loader | None = None, **options: Any) -> Watch:
    def monitor() -> DiversityMonitor:
        return DiversityMonitor(str(trained / "probes.jsonl"), **CHEAP)

    return Watch(output_dir, monitor, loader or Loader("cpu"), poll=0.05, **options)


def drawn(run: Run) -> dict[int, list[tuple[Any, ...]]]:
    """What was sampled and scored, by step."""
    return {
        step: [
            [(s.prompt_id, s.index, s.text, s.n_tokens, s.finish) for s in snapshot.samples],
            [(s.metric, s.mean, s.n) for s in snapshot.scores],
            [(c.metric, c.change, c.low, c.high) for c in snapshot.changes],
        ]
        for step in run.steps
        for snapshot in [run.read(step)]
    }


def later(action: Callable[[], Any], after: float = 0.6) -> threading.Timer:
    timer = threading.Timer(after, action)
    timer.start()
    return timer


# -- the same store, the same curves


def test_it_sees_what_the_callback_saw(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 0
    seen, saw = read_run(run), read_run(trained / "run")
    assert seen.folder.name == "_divmon_watch"
    assert seen.steps == saw.steps == [0, 10, 20, 30]
    mine, theirs = drawn(seen), drawn(saw)
    assert repr(mine) == repr(theirs), "to the last token and digit"
    for fact in ("epoch", "tokens", "max_steps"):
        assert seen.provenance[20][fact] == saw.provenance[20][fact], fact
    assert seen.provenance[20]["checkpoint"] == str(run / "checkpoint-20")
    printed = capsys.readouterr().out
    assert "divmon: paired change since the reference, at step 30" in printed
    assert (run / "runs/divmon").is_dir(), "curves beside the host's"
    assert watch(trained, run, "--once") == 0, "nothing is left to do"
    assert repr(drawn(read_run(run))) == repr(mine)


def test_several_at_once_are_measured_in_order(trained: Path, run: Path) -> None:
    (run / "checkpoint-30").rename(run / "checkpoint-100")
    assert watch(trained, run, "--once") == 0
    seen = read_run(run)
    times = [seen.provenance[step]["total_seconds"] for step in (10, 20, 100)]
    assert times == sorted(times)
    assert seen.manifest["reference_step"] == 10
    assert set(seen.samples.groupby("step").size()) == {16, 8}, "the first one is the reference, with more samples"


# -- a training run in another process


TRAIN = """
import sys, time
import runs, tiny, transformers
class Slow(transformers.TrainerCallback):
    def on_step_end(self, *_, **__):
        time.sleep(0.25)
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[2])
runs.sft(sys.argv[1], [Slow()], model, save_strategy="steps", save_steps=10).train()
"""


@pytest.mark.slow
def test_beside_a_training_run_killed_and_started_again(trained: Path, tmp_path: Path) -> None:
    here = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **here}
    output_dir = tmp_path / "run"
    training = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(output_dir), str(trained / "base")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    command = [sys.executable, "-m", "divmon", "watch", str(output_dir), "--config", str(trained / "divmon.yaml")]
    command += ["--device", "cpu", "--poll", "0.2", "--until-end", "--reference", str(trained / "base")]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if "divmon: step 10" in line:  # it goes on to the next, or waits for it
            break
    first.kill()
    first.wait()
    assert read_run(output_dir).steps[:2] == [0, 10]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert second.returncode == 0, second.stderr[-3000:]
    assert training.wait() == 0
    assert repr(drawn(read_run(output_dir))) == repr(drawn(read_run(trained / "run")))
    assert not (output_dir / "_divmon_watch/superseded").exists()


# -- checkpoints that are not whole, or not there any more


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
        (lambda c: (c / "trainer_state.json").write_text('{"global_'), "trainer_state.json is cut off"),
        (lambda c: _shard(c)[0].unlink(), "model-00001-of-"),
        (lambda c: _shard(c)[1].write_bytes(b"short"), "model-00002-of-"),
        (lambda c: (_shard(c), (c / "model.safetensors.index.json").write_text("{")), "index.json is cut off"),
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


# -- training that goes back


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


# -- adapters, and weights in pieces


@pytest.fixture(scope="module")
def adapters(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("lora")
    model = transformers.AutoModelForCausalLM.from_pretrained(trained / "base")
    callback = DiversityCallback(str(trained / "probes.jsonl"), **CHEAP)
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], r=8, lora_alpha=64, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    trainer = runs.sft(folder, [callback], model, max_steps=20, learning_rate=2e-2, **SAVING)
    trainer.train()
    return folder


def test_adapters_load_with_their_base(trained: Path, adapters: Path) -> None:
    assert (adapters / "checkpoint-20/adapter_model.safetensors").is_file()
    assert watch(trained, adapters, "--once", "--reference", str(trained / "base")) == 0
    saw, seen = read_run(adapters / "_divmon"), read_run(adapters / "_divmon_watch")
    assert repr(drawn(seen)) == repr(drawn(saw))
    assert drawn(seen)[20][0] != drawn(seen)[0][0][::2], "the adapter is at work"


def test_a_base_that_cannot_be_had_is_named(trained: Path, adapters: Path, tmp_path: Path) -> None:
    for checkpoint in found(adapters):
        copy = shutil.copytree(checkpoint.path, tmp_path / "run" / checkpoint.path.name)
        config = json.loads((copy / "adapter_config.json").read_text())
        (copy / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "org/gone"}))
    assert watch(trained, tmp_path / "run", "--once") == 3
    loader = Loader("cpu")
    with pytest.raises(Unusable, match=r"is an adapter of 'org/gone', which cannot be had .*; give --base MODEL"):
        loader.model(tmp_path / "run/checkpoint-10")
    assert watch(trained, tmp_path / "run", "--once", "--base", str(trained / "base")) == 0
    assert read_run(tmp_path / "run").steps == [10, 20]


def test_sharded_weights_name_the_command_that_merges_them(
    trained: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As accelerate saves them under SHARDED_STATE_DICT: no config, no tokenizer, weights in torch's own format."""
    from torch.distributed import checkpoint as dcp

    broken = run / "checkpoint-20"
    state = transformers.AutoModelForCausalLM.from_pretrained(broken).state_dict()
    for file in broken.iterdir():
        if file.name not in ("trainer_state.json", "training_args.bin"):
            file.unlink()
    dcp.save({"model": state}, storage_writer=dcp.FileSystemWriter(broken / "pytorch_model_fsdp_0"), no_dist=True)
    assert watch(trained, run, "--once") == 3
    (failure,) = read_run(run).manifest["failures"]
    assert failure["step"] == 20
    assert read_run(run).steps == [10, 30], "others go on"
    command = next(line for line in failure["reason"].splitlines() if line.startswith("  accelerate")).split()
    beside = Path(sys.executable).parent
    subprocess.run([beside / command[0], *command[1:]], check=True, capture_output=True)
    assert watch(trained, run, "--once") == 3, "its config is still missing"
    assert "--base MODEL" in read_run(run).manifest["failures"][-1]["reason"]
    assert watch(trained, run, "--once", "--base", str(trained / "base")) == 0
    seen = read_run(run)
    assert (seen.steps, seen.problems.failed) == ([10, 20, 30], ())
    assert drawn(seen)[20][0] == drawn(read_run(trained / "run"))[20][0]


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ("global_step20/zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_to_fp32.py"),
        ("pytorch_model_fsdp_rank0.bin", "FULL_STATE_DICT"),
        ("optimizer.pt", "holds no weights: looked for model.safetensors"),
    ],
)
def test_other_pieces_are_named(run: Path, piece: str, words: str) -> None:
    broken = run / "checkpoint-20"
    (broken / "model.safetensors").unlink()
    (broken / piece).parent.mkdir(exist_ok=True)
    (broken / piece).touch()
    with pytest.raises(Unusable, match=words):
        Checkpoint(20, broken).check()


def test_a_tokenizer_comes_from_the_checkpoint_its_base_or_as_told(trained: Path, run: Path) -> None:
    path = run / "checkpoint-10"
    assert Loader("cpu").tokenizer_of(path).name_or_path == str(path)
    assert Loader("cpu", tokenizer=str(trained / "base")).tokenizer_of(path).name_or_path == str(trained / "base")
    (path / "tokenizer_config.json").unlink()
    (path / "tokenizer.json").unlink()
    assert Loader("cpu", base=str(trained / "base")).tokenizer_of(path).name_or_path == str(trained / "base")
    with pytest.raises(Unusable, match="holds no tokenizer; give --tokenizer NAME"):
        Loader("cpu").tokenizer_of(path)


# -- memory, signals, wrong usage


def test_one_model_at_a_time_and_none_mapped_from_its_file(trained: Path, run: Path) -> None:
    alive: list[weakref.ref[Any]] = []

    class Counting(Loader):
        def model(self, name: str | Path) -> Any:
            assert not any(reference() for reference in alive), "the one before is gone when the next is loaded"
            made = super().model(name)
            alive.append(weakref.ref(made))
            maps = Path("/proc/self/maps")
            assert not maps.exists() or f"{run}/" not in maps.read_text(), "its file may be deleted or written anew"
            return made

    gc.collect()
    assert watcher(trained, run, Counting("cpu"), until="measured", reference=str(trained / "base")).run() == 0
    assert len(alive) == 4
    assert not any(reference() for reference in alive)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_up_what_is_under_way_and_nothing_else(
    trained: Path,
    run: Path,
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)

    def interrupted(self: Loader, name: str | Path, load: Any = Loader.model) -> Any:
        made = load(self, name)
        if Path(name).name == "checkpoint-20":
            made.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), number))  # while it samples
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "model", interrupted)
        assert watch(trained, run, "--until-end") == 128 + number
    assert signal.getsignal(number) is before
    assert f"stopped by {number.name}; started again it continues" in capsys.readouterr().err
    assert read_run(run).steps == [10]
    assert watch(trained, run, "--until-end") == 0, "the lock is free, and it goes on"
    assert read_run(run).steps == [10, 20, 30]
    assert not (run / "_divmon_watch/superseded").exists()


@pytest.mark.parametrize(("stopped", "over"), [(False, False), (True, True)])
def test_training_is_over_at_its_last_step_or_where_it_was_stopped(run: Path, stopped: bool, over: bool) -> None:
    last = Checkpoint(30, run / "checkpoint-30")
    assert last.ends_training
    assert not Checkpoint(20, run / "checkpoint-20").ends_training
    state = {**last.state, "max_steps": 99}
    state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"] = stopped
    (last.path / "trainer_state.json").write_text(json.dumps(state))
    assert last.ends_training == over


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--divmon_num_samples", "1"], "the diversity of a single completion is undefined"),
        (["--device", "cuda:99"], "device: cannot use 'cuda:99'"),
        (["--dtype", "int3"], "dtype: expected one of auto, float32"),
        (["--poll", "0"], "--poll: expected seconds above 0"),
        (["--divmon_reference", "ref_model"], "--reference MODEL names one here"),
        (["--serve", "vllm serve"], "lacks {checkpoint} and {port}"),
        (["--reference", "org/gone"], "--reference org/gone: OSError"),
        (["--divmon_verifier", "no.py:such"], "no.py"),
    ],
)
def test_wrong_usage(
    trained: Path, run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(trained, run, "--once", *words) == 2
    assert message in capsys.readouterr().err
    assert not (run / "_divmon_watch/manifest.json").exists()


def test_a_folder_that_is_not_there(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(trained, tmp_path / "none", "--once") == 2
    assert "there is no folder" in capsys.readouterr().err


HOLDS = """
import fcntl, os, sys, time

lock = open(sys.argv[1] + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(os.getpid(), file=lock, flush=True)
print("held", flush=True)
time.sleep(100)
"""


def test_only_one_watches_and_the_reference_stays(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(trained, run, "--once") == 0
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 2
    assert "has another reference, step 10" in capsys.readouterr().err
    shutil.copytree(run / "checkpoint-30", run / "checkpoint-40")
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run / "_divmon_watch")], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert watch(trained, run, "--once") == 2
    assert f"process {other.pid} is writing to" in capsys.readouterr().err
    other.kill()
    other.wait()
    assert watch(trained, run, "--once") == 0


def test_the_callback_never_finds_its_directory_taken(trained: Path, run: Path) -> None:
    assert watch(trained, run, "--once") == 0
    callback = DiversityCallback(str(trained / "probes.jsonl"), **CHEAP)
    runs.plain_trainer(run, [callback], max_steps=10).train()
    assert read_run(run).folder.name == "_divmon"
    assert read_run(run / "_divmon_watch").steps == [10, 20, 30]
    assert torch.get_num_threads() == 1
