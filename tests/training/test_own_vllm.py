"""sampler="vllm" beside a trainer that has no vLLM: TRL's own object. vLLM itself needs a GPU and is stood in for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from support import runs
from support.vllm_stand_in import Generation, SamplingParams
from trl.generation import vllm_generation

import divmon
from divmon import DiversityCallback
from divmon.training import own_vllm


def callback(folder: Path) -> DiversityCallback:
    cheap = {**runs.CHEAP, "every": 2, "max_new_tokens": 4, "output_dir": str(folder / "_divmon")}
    return DiversityCallback(runs.PROBES, **cheap, sampler="vllm", progress=False, on_error="raise", loggers=[])


def test_without_vllm_the_message_says_what_to_install(tmp_path: Path) -> None:
    trainer = runs.sft(tmp_path, [callback(tmp_path)], max_steps=2)
    with pytest.raises(ValueError, match=r"vLLM is not installed: run pip install 'trl\[vllm\]'"):
        trainer.train()


def test_it_is_called_by_trls_interface() -> None:
    taken = inspect.signature(vllm_generation.VLLMGeneration).parameters
    assert list(taken)[:3] == ["model", "accelerator", "processing_class"]
    assert {"mode", "gpu_memory_utilization", "max_model_length", "enable_sleep_mode"} <= taken.keys()
    assert taken["mode"].annotation in (str, "str")


def test_an_sft_run_is_the_same_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Kept(Generation):
        def _init_vllm(self) -> None:
            super()._init_vllm()
            made.append(self)

    alone = runs.sft(tmp_path / "alone", trained=runs.model("llama", tie_word_embeddings=False), max_steps=4)
    alone.train()
    monkeypatch.setattr(vllm_generation, "VLLMGeneration", Kept)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SamplingParams, raising=False)
    watched = runs.sft(
        tmp_path / "with", [callback(tmp_path)], runs.model("llama", tie_word_embeddings=False), max_steps=4
    )
    watched.train()
    runs.assert_same_run(watched, alone)
    run = divmon.read_run(tmp_path)
    assert run.steps == [0, 2, 4] and {facts["sampler"] for facts in run.provenance.values()} == {"vllm"}
    (generation,) = made
    assert generation.llm.loads >= 3, "weights are sent for each measurement"
    assert generation.llm.awake == set() and generation.enable_sleep_mode, "it sleeps while training"
    assert own_vllm.has_none(watched)
