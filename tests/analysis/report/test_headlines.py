"""The headlines of the report: a case for every story that runs tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import run_dirs

import divmon
from divmon.analysis.report import chart_rows, write
from divmon.analysis.report.correct_answers import Parts
from divmon.analysis.report.headline import headline
from divmon.analysis.report.wording import number
from divmon.loggers.console import closing_lines
from divmon.scoring.alerts import Alert
from divmon.scoring.scorer import Scorer
from divmon.storage.writer import Store
from divmon.types import TERMS, Change, Prompt, Score, Snapshot

NEVER = re.compile(r"−0 %|−0\.000|\+0\.000|-0\.000|kept (10[1-9]|1[1-9][0-9]|[2-9][0-9]{2}) %|no such pairs")
SPREAD = np.array([0.9, 1.0, 1.1, 1.0, 0.95, 1.05] * 3)


def levels(folder: Path, **ends: float | Sequence[float]) -> dict[str, Path]:
    """Runs of 18 prompts whose sbert goes from 0.4 to the end given, by name."""
    runs = {}
    for name, end in ends.items():
        steps = [0.4, *(end if isinstance(end, Sequence) else [end])]
        rows = [level * (SPREAD if s % 2 == 0 else SPREAD[::-1]) for s, level in enumerate(steps)]
        runs[name] = run_dirs.write(folder / name, range(0, 10 * len(steps), 10), {("sums", "sbert"): rows})
    return runs


def said(runs: Mapping[str, Any], alerts: Mapping[str, Sequence[Alert]] | None = None) -> list[tuple[str, str, str]]:
    """Questions, answers and figures; none of them may hold what no headline says."""
    found = headline(divmon.compare(dict(runs)), alerts or {}).answers
    assert not NEVER.search(str(found)), found
    return found


def fired(kind: str, step: int = 10) -> Alert:
    return Alert(kind, "sums", step, step, f"{kind.upper()}: 60 %\nRead them", 0.5, 0.4, 0.6, 18, (), 9.0, 3.0)


@pytest.mark.parametrize(
    ("ends", "question", "answer", "figures"),
    [
        ({"a": 0.1}, "Did it collapse?", "a collapsed.", "a kept 25 %"),
        ({"a": 0.3}, "Did it collapse?", "a lost diversity.", "a kept 75 %"),
        ({"a": 0.4}, "Did it collapse?", "a kept its diversity, as far as these prompts tell.", "a kept 100 %"),
        ({"a": 0.996}, "Did it collapse?", "No: a gained diversity.", "a gained 149 %"),
        ({"a": 0.1, "b": 0.3}, "Which run collapsed?", "a collapsed.", "b lost diversity: kept 75 %"),
        ({"a": 0.1, "b": 0.1}, "Which run collapsed?", "a and b collapsed.", ""),
        (
            {"a": 0.3, "b": 0.996},
            "Which run collapsed?",
            "None collapsed; a lost diversity.",
            "b gained diversity: up by",
        ),
        ({"a": 0.6, "b": 0.996}, "Which run collapsed?", "None collapsed.", "a gained diversity."),
        ({"a": 0.4, "b": 0.4}, "Which run collapsed?", "None collapsed.", "kept its diversity"),
        ({"a": []}, "Did it collapse?", "Nothing can be said about change yet.", "there is one: a at step 0"),
        ({"a": [], "b": []}, "Which run collapsed?", "Nothing can be said about change yet.", "a and b do not differ"),
        ({"a": [], "b": 0.1}, "Which run collapsed?", "b collapsed.", "Nothing can be said of the change of a"),
    ],
)
def test_each_story_has_its_words(tmp_path: Path, ends: Any, question: str, answer: str, figures: str) -> None:
    first = said(levels(tmp_path, **ends))[0]
    assert first[:2] == (question, answer) and figures in first[2], first


def test_runs_that_differ_in_opposite_directions_on_two_tasks(tmp_path: Path) -> None:
    runs = {}
    for name, ends in {"a": (0.1, 0.6), "b": (0.6, 0.15)}.items():
        values = {(task, "sbert"): [0.4 * SPREAD, end * SPREAD[::-1]] for task, end in zip("xy", ends, strict=True)}
        runs[name] = run_dirs.write(tmp_path / name, (0, 10), values)
    first = said(runs)[0]
    assert first[1] == "a and b (on y) collapsed." and "b gained diversity" in first[2]


def test_a_start_without_diversity_has_nothing_to_lose(tmp_path: Path) -> None:
    run = run_dirs.write(tmp_path / "a", (0, 10), {("sums", "sbert"): [[0.0] * 4, [0.0] * 4]})
    assert said({"a": run})[0][1] == "It cannot be said." and "nothing to lose" in said({"a": run})[0][2]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("repetition", "a degenerated on sums from step 10 on."),
        ("length", "a degenerated on sums from step 10 on."),
        ("truncation", "a cannot be compared on sums from step 10 on."),
    ],
)
def test_what_is_no_sound_text_leads(tmp_path: Path, kind: str, answer: str) -> None:
    found = said(levels(tmp_path, a=0.996), {"a": [fired(kind)]})
    assert found[0][1] == answer and f"{kind.upper()}: 60 %" in found[0][2]
    if kind != "truncation":
        assert "gained" not in found[1][1] and "can hide" in found[1][1], "degenerate text is no gain"


def test_where_no_run_lost_the_second_question_is_whether_they_differ(tmp_path: Path) -> None:
    found = said(levels(tmp_path, a=[0.6, 0.6], b=[0.996, 0.996]))
    assert found[1][:2] == ("Do the runs differ?", "Yes, from step 10 on.")


def test_nothing_graded_names_the_remedy(tmp_path: Path) -> None:
    folder = levels(tmp_path, a=0.1)["a"]
    store = divmon.storage.writer.Store(folder).open(divmon.read_run(folder).manifest, resume_step=10)
    store.update(verifiers={"sums": "None"})
    store.close()
    question, answer, figures = said({"a": folder})[-1]
    assert question == "How much of it was narrowing among correct answers?" and answer == "It cannot be said."
    assert "ungraded" in figures and "gold" in figures


def test_what_was_graded_is_never_called_ungraded(tmp_path: Path) -> None:
    rows = [0.4 * SPREAD, 0.1 * SPREAD]
    some = [[0.5] * 18, [np.nan] * 18]
    one_side = run_dirs.write(tmp_path / "one", (0, 10), {("sums", "sbert"): rows, ("sums", "accuracy"): some})
    assert "graded at step 0 and not at step 10" in said({"one": one_side})[-1][2]
    graded = {("sums", "ead"): rows, ("sums", "accuracy"): [[0.5] * 18] * 2}
    assert "not a mean over pairs" in said({"ead": run_dirs.write(tmp_path / "ead", (0, 10), graded)})[-1][2]
    facts = {10: {"left_out": {"sums/sbert/decomposition": "ValueError: distances of 64"}}}
    values = {("sums", "sbert"): rows, ("sums", "accuracy"): [[0.5] * 18] * 2}
    failed = run_dirs.write(tmp_path / "failed", (0, 10), values, facts=facts)
    for text in (said({"failed": failed})[-1][2], write(divmon.compare([failed]), tmp_path / "p.html").read_text()):
        assert "ValueError: distances of 64" in text and "ungraded" not in text.partition("<script")[0]


def test_no_correct_answers_on_a_side_is_no_zero(tmp_path: Path) -> None:
    def text(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
        return f"{'abcdefgh'[k % 8] * 3} {k if step == 0 else k % 2} {prompt.id}", step > 0

    run = run_dirs.draw(tmp_path / "a", (0, 10), text, Scorer("sbert,ead", embedder="minilm", vocab_size=400))
    question, answer, figures = said({"a": run})[-1]
    assert "correct answers?" in question and answer == "It cannot be said."
    assert "No prompt has two correct answers of a both at the reference and now" in figures and "alike" not in figures


def parts(correct: float, change: float = -0.5) -> Parts:
    import pandas as pd

    values = dict(zip(("change", *TERMS), (change, change - correct, correct, -1e-9, -1e-9), strict=True))
    frame = pd.DataFrame(
        [{"part": name, "value": value, "low": value - 0.01, "high": value - 1e-6} for name, value in values.items()]
    )
    return Parts("a", [frame.assign(label=None).set_index("part")])


def test_a_share_is_told_only_where_there_is_one() -> None:
    assert parts(-0.25).answer() == "50 % of it." and "which became alike" in parts(-0.25).sentence()
    assert parts(-0.001).answer() == "None of it." and number(-1e-9, "+.3f") == "0.000"
    assert "became" not in parts(-0.0001).sentence() and parts(0.1).answer() == "+0.100 of −0.500."


def test_an_alert_marks_its_own_metric_alone(tmp_path: Path) -> None:
    values = {
        ("sums", name): [0.4 * SPREAD, 0.1 * SPREAD] for name in ("sbert", "ead", "repetition", "empty", "no_answer")
    }
    comparison = divmon.compare([run_dirs.write(tmp_path / "a", (0, 10), values)])
    for kind, metrics in {"narrowing": {"sbert"}, "repetition": {"repetition"}, "length": {"empty"}}.items():
        rows = chart_rows.rows(comparison, {"a": [fired(kind)]})["curve"]
        assert {row["metric"] for row in rows if row["alert"]} == metrics, kind


def test_as_many_completions_stand_side_by_side_at_every_step(tmp_path: Path) -> None:
    def text(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
        return f"{k} {prompt.id}", True

    run = run_dirs.draw(tmp_path / "a", (0, 10), text, Scorer("ead", vocab_size=400), prompts=4, num_samples=3)
    page = write(divmon.compare([run]), tmp_path / "page.html").read_text()
    assert "a, step 0:</strong> the first 3 of 6 completions" in page and "a, step 10:</strong> 3 completions" in page


def test_one_snapshot_is_compared_with_the_earlier_run_that_was_its_reference(tmp_path: Path) -> None:
    probe = run_dirs.probe("sums", 4)
    options = {"num_samples": 8, "reference": "runs/base"}
    store = Store(tmp_path / "tuned").open(run_dirs.manifest([probe], options=options))
    score = Score("sums", "sbert", 0.25, 0.1, 0.4, 4, (0.1, 0.2, 0.3, 0.4))
    change = Change("sums", "sbert", 0.5, 0.25, -0.25, -0.3, -0.2, 4)
    provenance = run_dirs.provenance([probe])
    store.write(Snapshot(16, [], scores=[score], changes=[change], provenance=provenance))
    store.close()
    c = divmon.compare(tmp_path / "tuned")
    said = "tuned at step 16: sbert -0.250 [-0.300, -0.200] since the reference of runs/base"
    assert said in headline(c, {}).answers[0][1]
    closing = closing_lines(store, [])
    assert "-0.250" in closing
    for text in (str(c), repr(divmon.read_run(tmp_path / "tuned")), closing):
        assert "othing can be said" not in text
