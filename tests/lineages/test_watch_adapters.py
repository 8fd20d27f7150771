"""Adapters, weights in pieces, tokenizers from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import transformers
from support import forks, runs
from support.watching import CHEAP, SAVING, drawn, watch
from support.watching import run as run
from support.watching import trained as trained

from divmon import DiversityCallback
from divmon.lineages.watch.checkpoints import Checkpoint, Loader, Unusable, found
from divmon.storage.reader import read_run


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
    assert command[0] == "accelerate"
    merged = forks.run(["-m", "accelerate.commands.accelerate_cli", *command[1:]])
    assert merged.returncode == 0, merged.stderr[-3000:]
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
