"""The second run's reference is not drawn again where weights, prompts and decoding are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny

from divmon import DiversityMonitor
from divmon.sampling.sampler import Sampler
from divmon.types import Snapshot


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps that were drawn at, one for each call of the sampler."""
    steps: list[int] = []
    draw = Sampler.draw

    def counted(self: Any, requests: Any, **how: Any) -> Any:
        steps.append(how["step"])
        return draw(self, requests, **how)

    monkeypatch.setattr(Sampler, "draw", counted)
    return steps


def measure(folder: Path, model: Any, step: int = 0, **options: Any) -> Snapshot:
    made = {**runs.CHEAP, "progress": False, "output_dir": str(folder), **options}
    monitor = DiversityMonitor(runs.PROBES, loggers=[], **made)
    snapshot = monitor.measure(model, tiny.tokenizer(runs.TEXTS), step)
    monitor.close()
    assert snapshot is not None
    return snapshot


def test_the_same_model_asked_the_same_is_measured_once(tmp_path: Path, drawn: list[int]) -> None:
    first = measure(tmp_path / "a", runs.model())
    calls = len(drawn)
    again = measure(tmp_path / "b", runs.model(), alerts=None, max_overhead=0.2)
    assert len(drawn) == calls, "weights, prompts and decoding are the same"
    assert again.samples == first.samples and repr(again.scores) == repr(first.scores)
    assert again.provenance["reused"] and "reused" not in first.provenance


def test_what_differs_is_drawn(tmp_path: Path, drawn: list[int]) -> None:
    measure(tmp_path / "a", runs.model())
    trained = runs.model()
    with torch.no_grad():
        next(trained.parameters())[5, 3] += 1e-3
    others: list[dict[str, Any]] = [{"model": trained}, {"temperature": 0.7}, {"step": 3}]
    for place, other in enumerate(others):
        calls = len(drawn)
        assert "reused" not in measure(tmp_path / str(place), **{"model": runs.model(), **other}).provenance, other
        assert len(drawn) > calls, other


def test_functions_of_the_users_own_are_called_in_every_run(tmp_path: Path, drawn: list[int]) -> None:
    called = []

    def mine(texts_PK: Any) -> torch.Tensor:
        called.append(1)
        return torch.ones(len(texts_PK))

    for name in ("a", "b"):
        measure(tmp_path / name, runs.model(), metrics=[mine])
    assert len(called) >= 2
