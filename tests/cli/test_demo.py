"""The demo end to end: small here, in full and with its story as a slow test."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from divmon.cli import demo
from divmon.lineages.miniature import display
from divmon.lineages.miniature.base import BaseConfig
from divmon.storage.reader import Run

TINY = BaseConfig(hidden_size=32, intermediate_size=64, num_attention_heads=2, steps=20)
SMALL = {"steps": 2, "num_prompts": 3, "num_samples": 4, "base": TINY}


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIVMON_CACHE", str(tmp_path_factory.getbasetemp() / "demo-cache"))


def test_from_nothing_to_curves_and_again(cache: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    first = demo.run(out, **SMALL)
    shown = capfd.readouterr().out
    for name, run in first.items():
        assert run.steps == [0, 1, 2]
        assert set(run.samples.groupby("step").size()) == {3 * 16, 3 * 4}, "a larger reference, then K"
        events = one_event_file(out / name)
        assert [e.step for e in events.Scalars("Diversity/word_problems/sbert")] == [0, 1, 2]
        assert [e.step for e in events.Scalars("train/loss")], "the host's own rows are there too"
    assert (out / "curves.png").read_bytes()[1:4] == b"PNG"
    assert "[1/3] Base model: a small Olmo 3 learns" in shown
    assert "narrow data (one style)" in shown and f"tensorboard --logdir {out}" in shown

    again = demo.run(out, **SMALL)
    assert "from the cache" in capfd.readouterr().out
    for name, run in again.items():
        one_event_file(out / name)
        assert run.scores.equals(first[name].scores), "a seed gives the same figures"


def one_event_file(folder: Path) -> EventAccumulator:
    files = list((folder / "runs").rglob("events.out.tfevents.*"))
    assert len(files) == 1, f"curves of two runs would mix: {files}"
    return EventAccumulator(str(files[0])).Reload()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "narrow").mkdir()
    (tmp_path / "narrow" / "thesis.txt").write_text("do not lose")
    assert demo.main(["--out", str(tmp_path)]) == 2
    assert "holds files that are not the demo's; give another folder with --out" in capsys.readouterr().err
    assert (tmp_path / "narrow" / "thesis.txt").read_text() == "do not lose"


def test_a_missing_extra_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert demo.main(["--out", str(tmp_path / "demo")]) == 2
    assert "pip install 'divmon[demo]'" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_too_few_steps_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--steps", "3"]) == 2
    assert "--steps: expected at least 4" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user runs it, base model included: narrow loses most of its diversity, broad keeps it."""
    monkeypatch.setenv("DIVMON_CACHE", str(tmp_path / "cache"))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "divmon", "demo", "--out", tmp_path / "demo"], check=True)
    seconds = time.perf_counter() - began
    from divmon.storage.reader import read_run

    kept = {name: share_kept(read_run(tmp_path / "demo" / name)) for name in demo.RUNS}
    print(f"{seconds:.0f} s; share of distinct answers and of SBERT distance kept: {kept}")
    assert kept["narrow"][0] < 0.4 and kept["narrow"][1] < 0.4
    assert kept["broad"][0] > 0.6 and kept["broad"][1] > 0.6


def share_kept(run: Run) -> tuple[float, float]:
    distinct, sbert = display.distinct(run, 16).mean, display.curve(run, "sbert").mean
    return round(distinct[-1] / distinct[0], 2), round(sbert[-1] / sbert[0], 2)
