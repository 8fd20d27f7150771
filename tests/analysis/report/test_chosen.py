"""What the page says of the checkpoint to keep, and of a sweep, whose steps are no training steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from support import run_dirs

import divmon
from divmon.analysis.comparison.members import Member, members
from divmon.analysis.report import facts
from divmon.analysis.report.chosen import chosen

ACCURACY = np.array([[0.5], [0.78], [0.8], [0.8]]) + np.linspace(-0.1, 0.1, 8) * np.array([[0], [1], [-1], [0.5]])
VALUES = {
    **dict.fromkeys((("sums", "sbert"), ("sums", "sbert_correct")), np.repeat([[0.2], [0.15], [0.1], [0.02]], 8, 1)),
    ("sums", "accuracy"): ACCURACY,
}


def run(folder: Path, steps: tuple[int, ...] = (0, 10, 20, 30), **manifest: Any) -> list[Member]:
    return members([run_dirs.write(folder / "_divmon", steps, VALUES, **manifest)])


def note(folder: Path, file: str, **what: Any) -> None:
    folder.mkdir(parents=True)
    (folder / file).write_text(json.dumps(what))


def test_what_keep_best_kept_and_what_the_rule_names_with_their_reasons(tmp_path: Path) -> None:
    found = run(tmp_path / "out")
    note(tmp_path / "out" / "_divmon" / "best", "divmon_best.json", step=20, why="the <first> that was as good")
    said = chosen(found)
    assert "kept in best/ while it trained: step 20; the &lt;first&gt; that was as good" in said
    assert "the rule of divmon select names step 10: accuracy 0.78" in said
    assert "the most diverse of 2 that are as accurate as step 20, the best at 0.80" in said
    assert chosen(members([run_dirs.write(tmp_path / "one", [0], {k: v[:1] for k, v in VALUES.items()})])) == ""


def test_a_sweep_is_called_one_and_raises_no_alarm(tmp_path: Path) -> None:
    models = {"base": "the/base", "tuned": "the/tuned", "base_files": "", "tuned_files": ""}
    found = run(tmp_path / "swept", (0, 250, 500, 1000), sweep=models)
    note(tmp_path / "swept" / "model", "divmon_sweep.json", alpha=0.25, why="asked for")
    said = chosen(found)
    assert "between the/base (step 0) and the/tuned (step 1000)" in said
    assert "saved in model/: alpha 0.25; asked for" in said and "divmon select" not in said
    fired, untold = facts.alerts(found)
    assert fired == {} and "is a sweep between two models" in untold[0]
    run(tmp_path / "trained", (0, 250, 500, 1000))
    notes = divmon.compare([tmp_path / "swept", tmp_path / "trained"]).notes
    assert any("swept is a sweep: its steps are 1000 alpha" in line for line in notes)


def test_a_task_without_equations_or_programs_points_to_the_judge(tmp_path: Path) -> None:
    nothing = {("poems", "approach"): np.full((2, 8), np.nan), ("sums", "approach"): np.ones((2, 8))}
    (line,) = facts.without_approach(members([run_dirs.write(tmp_path / "a", [0, 10], nothing)]))
    assert "a: the approaches of answers to poems are undefined" in line and "judge='MODEL@URL'" in line
    judged = nothing | {("poems", "judged_approaches"): np.ones((2, 8))}
    assert facts.without_approach(members([run_dirs.write(tmp_path / "b", [0, 10], judged)])) == []
