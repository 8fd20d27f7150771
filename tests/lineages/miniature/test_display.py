"""What the demo shows: figures as they are in the run, in columns, in any terminal; and the picture."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest

from divmon.lineages.miniature import display
from divmon.lineages.miniature.data import probe
from divmon.lineages.miniature.display import Curve
from divmon.storage.reader import Run, read_run
from divmon.storage.writer import Store
from divmon.types import TERMS, Change, Sample, Score, Snapshot

PROBE = probe(2)
TASK = PROBE.name


def written(folder: Path, distinct: list[float]) -> Run:
    """A run of two steps."""
    with Store(folder).open({"probes": [PROBE]}) as store:
        for step, share in zip((0, 30), distinct, strict=True):
            samples = [
                Sample(TASK, prompt.id, k, f"text {k}\n#### 0", "eos", 5) for prompt in PROBE.prompts for k in range(4)
            ]
            scores = [
                Score(TASK, "distinct_share", share, share - 0.1, share + 0.1, 2, (share, share)),
                Score(TASK, "sbert", share / 2, share / 2 - 0.05, share / 2 + 0.05, 2, (share / 2, share / 2)),
                Score(TASK, "accuracy", share, share, share, 2, (share, share)),
            ]
            parts = ["sbert", *(f"sbert/{term}" for term in TERMS)]
            changes = [Change(TASK, name, 0.5, 0.4, -0.01 * i, -0.02, 0.01, 2) for i, name in enumerate(parts)]
            store.write(Snapshot(step, samples, scores=scores, changes=changes))
    return read_run(folder)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Run]:
    return {
        "narrow": written(tmp_path / "n", [0.75, 0.25]),
        "broad": written(tmp_path / "b", [0.75, 0.5]),
    }


def test_curves_are_the_scores(runs: dict[str, Run]) -> None:
    assert display.distinct(runs["narrow"], 4) == Curve([0, 30], [3.0, 1.0], *([2.6, 0.6], [3.4, 1.4]))
    assert display.curve(runs["broad"], "accuracy", 100).mean == [75.0, 50.0]


def test_the_summary_shows_both_runs_step_by_step(runs: dict[str, Run]) -> None:
    lines = display.summary(runs, PROBE, 4).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("distinct completions among 4"))
    start, end = lines[at + 2], lines[at + 3]
    assert start.split()[0] == "0" and start.count("3.0 [2.6, 3.4]") == 2
    assert end.split()[0] == "30" and end.index("1.0 [0.6, 1.4]") < end.index("2.0 [1.6, 2.4]")
    assert len(max(lines, key=len)) <= 120
    for i, words in enumerate(TERMS.values(), 1):
        line = next(line for line in lines if line.endswith("  " + words))
        assert line.split("]")[0].split("[")[0].split() == [f"{-0.01 * i:+.3f}"]
    assert sum("text 1" in line for line in lines) == 1, "samples of both runs stand side by side"
    assert next(line for line in lines if "text 1" in line).count("text 1") == 2


def test_a_bar_is_as_long_as_its_value_and_plain_where_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {"narrow": Curve([0, 1, 2], [8.0, 4.0, 0.0], [math.nan] * 3, [math.nan] * 3)}
    for encoding, block in (("utf-8", "█"), ("ascii", "#")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        _, _, *lines = display._bars("title", curves, 8.0, ".0f")
        assert [line.count(block) for line in lines] == [display.BAR, display.BAR // 2, 0]
        assert lines[0].endswith("8") and "nan" not in "".join(lines)


def test_the_picture_shows_both_runs(runs: dict[str, Run], tmp_path: Path) -> None:
    from matplotlib.image import imread

    display.draw(runs, tmp_path / "curves.png", 2, 4)
    pixels = imread(tmp_path / "curves.png")
    assert pixels.shape[1] > 1000
    for colour in display.COLOURS.values():
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (abs(pixels[..., :3] - rgb).max(-1) < 0.02).sum() > 500, f"no line in {colour}"


def test_where_names_commands_that_can_be_pasted() -> None:
    out = Path("my demo")
    assert "tensorboard --logdir 'my demo'" in display.where(out, out / "curves.png", 12.3)
