from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import runs, tiny

import divmon
from divmon.undisturbed import SETTINGS, undisturbed, undisturbed_process, undisturbed_rng


def test_generators_come_back_also_after_an_error() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(KeyError), undisturbed_rng():
        random.random(), np.random.rand(), torch.rand(3), torch.manual_seed(99)
        raise KeyError
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert torch.initial_seed() == 1


def test_modes_come_back_module_by_module_without_running_their_code() -> None:
    class Merging(torch.nn.Linear):
        def train(self, mode: bool = True) -> Merging:
            raise AssertionError("switching modes by call would merge weights here")

    inner = Merging(2, 2)
    model = torch.nn.Sequential(torch.nn.Dropout(), inner, torch.nn.Dropout())
    model[0].training = False
    with pytest.raises(KeyError), undisturbed(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        raise KeyError
    assert [m.training for m in model.modules()] == [True, False, True, True]
    assert torch.is_grad_enabled()


def test_a_rotary_embedding_that_scales_with_the_length_is_as_it_was() -> None:
    """Sampling past the trained length rewrites its frequencies; training at that length would then differ."""
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = tiny.model("llama", rope_parameters=scaling, max_position_embeddings=16).train()
    ids = torch.randint(3, tiny.VOCAB, (1, 20), generator=torch.Generator().manual_seed(0))
    rope = model.model.rotary_emb
    model(input_ids=ids)
    before = rope.inv_freq.clone(), rope.max_seq_len_cached
    divmon.sample(model, ids, num_samples=2, max_new_tokens=30)
    assert torch.equal(rope.inv_freq, before[0])
    assert rope.max_seq_len_cached == before[1]
    model.eval(), model(input_ids=ids.repeat(1, 3))
    assert not torch.equal(rope.inv_freq, before[0]), "this model's frequencies do move"


def test_buffers_written_in_place_and_attributes_left_behind_are_undone() -> None:
    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(2))
            self.calls = 0
            self.generation_config = None

        def forward(self) -> None:
            self.seen += 1
            self.calls += 1
            self.left_behind = True

    model = Counting()
    with undisturbed(model):
        model()
    assert torch.equal(model.seen, torch.zeros(2))
    assert model.calls == 0
    assert not hasattr(model, "left_behind")


CHANGES: dict[str, Callable[[], Any]] = {
    "grad mode": lambda: torch.set_grad_enabled(False),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "cuDNN flags": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "precision of matrix products": lambda: torch.set_float32_matmul_precision("medium"),
    "anomaly detection": lambda: torch.set_anomaly_enabled(True),
    "numpy's errors": lambda: np.seterr(all="raise"),
    "warnings filters": lambda: warnings.simplefilter("error"),
    "working directory": lambda: os.chdir("/"),
    "environment": lambda: (os.environ.update(DIVMON_NEW="1", HOME="/nowhere"), os.environ.pop("PATH")),
    "signal handlers": lambda: signal.signal(signal.SIGINT, lambda *_: None),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C" if "UTF" in locale.setlocale(locale.LC_ALL) else "C.UTF-8"),
    "recursion limit": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7),
    "garbage collection": gc.disable,
}
"""A change of each thing that the guard covers."""


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_process_wide_setting_comes_back_also_after_an_error(setting: Any) -> None:
    before = setting.get()
    with pytest.raises(KeyError), undisturbed_process():
        CHANGES[setting.name]()
        assert setting.get() != before, "the change is one"
        raise KeyError
    assert setting.get() == before


def test_weights_are_those_of_a_run_without_a_metric_that_changes_them_all(tmp_path: Path) -> None:
    """Everything at once, in the training's own thread, where it would matter most; and a generator too."""

    def meddling(lengths_PK: torch.Tensor) -> torch.Tensor:
        for change in CHANGES.values():
            with warnings.catch_warnings(action="ignore"):
                change()
        torch.manual_seed(7)
        raise SystemExit("enough")

    def trained(folder: Path, callbacks: list[Any]) -> Any:
        trainer = runs.sft(folder, callbacks, runs.model(attention_dropout=0.1), max_steps=4)
        trainer.train()
        return trainer

    options = {**runs.CHEAP, "metrics": ["ead", meddling], "every": 2, "progress": False, "user_timeout": None}
    with_it = trained(tmp_path / "with", [divmon.DiversityCallback(runs.PROBES, **options)])
    runs.assert_same_run(with_it, trained(tmp_path / "without", []))
    run = divmon.read_run(tmp_path / "with")
    assert run.steps == [0, 2, 4] and "SystemExit: enough" in str(run.problems.found[0])
