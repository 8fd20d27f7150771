"""A run with failed or missing measurements says so first: in read_run, a training's last lines, compare, report."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from support import run_dirs, runs
from transformers import TrainerCallback

import divmon
from divmon import DiversityCallback
from divmon.analysis.report import write
from divmon.loggers.console import red
from divmon.storage.problems import NO_REASON, find_problems, steps_in_words
from divmon.storage.writer import Store

SAID = "1 of 4 measurements failed (step 20); 3 are incomplete (steps 0, 10 and 30)"


class TakesTheDiskAway(TrainerCallback):
    """Between two steps there is no room for snapshots, as on a disk that is full for a while."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 15:
            (self.store / "snapshots").rename(self.store / "kept")
            (self.store / "snapshots").write_text("in the way")
        if state.global_step == 25:
            (self.store / "snapshots").unlink()
            (self.store / "kept").rename(self.store / "snapshots")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, str]]:
    """A training with a metric of the user's that raises and a disk that fails, one that is well, and one that is
    measured once; and what a person saw of each."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("trained")
    (folder / "own.py").write_text(
        "import time\ndef own(lengths_PK):\n    raise RuntimeError(f'no model {time.time_ns()}')\n"
    )
    own = {
        "failed": {"metrics": f"ead,{folder / 'own.py'}:own"},
        "healthy": {},
        "once": {"every": None, "at_end": False},
    }
    paths, seen = {}, {}
    for name, options in own.items():
        paths[name] = folder / name
        after = [TakesTheDiskAway(folder / name / "_divmon")] if name == "failed" else []
        with contextlib.redirect_stdout(io.StringIO()) as out:
            callback = DiversityCallback(runs.PROBES, **{**runs.CHEAP, **options})
            runs.sft(folder / name, [callback, *after]).train()
        seen[name] = out.getvalue()
    return paths, seen


def page_of(path: Path, tmp_path: Path) -> str:
    """The page as a reader without JavaScript sees it."""
    text = write(divmon.compare([path]), tmp_path / "page.html").read_text()
    return text.partition("<main")[2].partition("<script")[0]


def test_read_run_names_what_failed_where_and_why(trained: Any) -> None:
    run = divmon.read_run(trained[0]["failed"])
    problems = run.problems
    assert (problems.measurements, problems.failed, problems.incomplete) == (4, (20,), (0, 10, 30))
    assert problems.summary == SAID and repr(run).splitlines()[1] == f"WARNING: {SAID}; run.problems has the reasons"
    lost, figure = problems.found
    assert lost.kind == "measurement" and "NotADirectoryError" in lost.reason
    assert (figure.what, figure.steps, figure.count) == (("prompts/own",), (0, 10, 30), 3), "one reason, other numbers"
    assert "RuntimeError: no model " in figure.reason and problems.reason_of("prompts/own", 30) == figure.reason
    assert problems.frame()["kind"].tolist() == ["measurement", "figure"]
    assert problems.lines()[0] == SAID and str(lost) in problems.lines() and len(problems.lines(1)) == 3


def test_a_training_ends_with_what_failed_before_its_table(trained: Any) -> None:
    said = trained[1]["failed"].splitlines()
    first = said.index(f"divmon: {SAID}")
    assert "NotADirectoryError" in said[first + 1] and "no model" in said[first + 2]
    assert said[first + 3] == "divmon: paired change since the reference, at step 30"


def test_compare_begins_with_it(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = divmon.compare([trained[0]["healthy"], trained[0]["failed"]], "step", "ead")
    assert str(comparison).startswith(f"failed: {SAID}\n")
    assert comparison.problems["run"].tolist() == ["failed", "failed"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert str(comparison).startswith(f"\x1b[31mfailed: {SAID}\x1b[0m\n") and red("x") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert red("x") == "x"


def test_the_report_begins_with_it_and_calls_nothing_healthy(trained: Any, tmp_path: Path) -> None:
    page = page_of(trained[0]["failed"], tmp_path)
    assert page.index('id="problems" class="problem" role="alert"') < page.index('id="answer"')
    assert f"failed: {SAID}" in page and "RuntimeError: no model" in page
    assert "as far as these prompts tell" not in page
    if "kept its diversity" in page:
        assert "at the 3 of 4 measurements that did not fail" in page


def test_a_healthy_run_shows_none_of_it(trained: Any, tmp_path: Path) -> None:
    run = divmon.read_run(trained[0]["healthy"])
    assert not run.problems and run.problems.lines() == [] and len(repr(run).splitlines()) == 1
    assert run.problems.measurements == 4 and divmon.compare([run]).problems.empty
    for text in (trained[1]["healthy"], str(divmon.compare([run])), page_of(trained[0]["healthy"], tmp_path)):
        assert not re.search(r"failed|incomplete|WARNING|id=.problems", text), text
    assert "4 snapshots in" in trained[1]["healthy"] and "divmon report" in trained[1]["healthy"]


def test_of_one_snapshot_nothing_is_said_about_change(trained: Any, tmp_path: Path) -> None:
    path, seen = trained[0]["once"], trained[1]["once"]
    assert "one snapshot, at step 0: nothing can be said about change yet" in seen and "paired change" not in seen
    assert "nothing can be said about change yet" in repr(divmon.read_run(path))
    comparison, page = str(divmon.compare([path])), page_of(path, tmp_path)
    assert "Nothing can be said about change yet of one snapshot" in comparison and "100 %" not in comparison
    assert "Nothing can be said about change yet." in page
    assert not re.search(r"kept \d|kept its|collapsed\.|100 %", page.partition('class="quiet">Intervals')[0]), page
    both = divmon.compare({"once": path, "again": Path(shutil_copy(path, tmp_path / "again"))})
    assert "Nothing can be said about change yet." in write(both, tmp_path / "two.html").read_text()


def shutil_copy(path: Path, to: Path) -> str:
    import shutil

    return str(shutil.copytree(path, to))


# -- as data


def marker(**facts: Any) -> dict[str, Any]:
    return {"missing": [], "provenance": facts}


def test_what_was_planned_and_is_not_there_failed() -> None:
    there = {0: marker(), 10: marker()}
    planned = {"planned": [0, 10, 20, 30]}
    assert not find_problems(planned, there, {}, {}), "it is still training"
    found = find_problems({**planned, "ended": 20}, there, {}, {})
    assert (found.measurements, found.failed) == (3, (20,)) and found.found[0].reason == NO_REASON
    later = find_problems(planned, {**there, 30: marker()}, {}, {})
    assert (later.measurements, later.failed) == (4, (20,)), "one that came later shows it"
    thinned = {**planned, "ended": 30, "options": {"max_overhead": 0.05}}
    assert not find_problems(thinned, there, {}, {}), "a budget may pass steps over"
    recorded = find_problems({**thinned, "passed_over": [20]}, there, {}, {})
    assert recorded.failed == (30,), "those that it did pass over are recorded since budgets are the default"


def test_a_step_measured_again_after_a_resume_failed_no_longer() -> None:
    failed = {"failures": [{"step": 10, "what": "the measurement", "reason": "OSError: full"}]}
    assert find_problems(failed, {0: marker()}, {}, {}).failed == (10,)
    assert not find_problems(failed, {0: marker(), 10: marker()}, {}, {})


def test_what_failed_beside_the_measurements_is_no_failed_measurement() -> None:
    failed = {"failures": [{"step": 0, "what": "the price", "reason": "ValueError: no rows"}]}
    found = find_problems(failed, {0: marker(), 10: marker()}, {}, {})
    assert found and (found.failed, found.incomplete, found.summary) == ((), (), "the price failed")
    assert found.lines()[1] == "the price failed at step 0: ValueError: no rows"


def test_missing_prompts_and_alerts_are_told() -> None:
    there = {
        0: marker(),
        10: {"missing": [["a", f"p{i}", f"out of memory at {i}"] for i in range(5)], "provenance": {}},
    }
    there[20] = marker(alerts_failed="ValueError: x")
    found = find_problems({}, there, {}, {})
    assert found.incomplete == (10, 20) and found.summary == "2 of 3 measurements are incomplete (steps 10 and 20)"
    assert "5 prompts without completions at step 10 (a/p0, a/p1, a/p2 and 2 more): out of memory at 0" in found.lines()


def test_damaged_files_are_told(tmp_path: Path) -> None:
    folder = run_dirs.write(tmp_path / "a", (0, 10, 20, 30), {("sums", "sbert"): [[0.3] * 4] * 4})
    (folder / "snapshots" / "00000010.json").write_text("{")
    samples = folder / "snapshots" / "00000020.samples.jsonl.gz"
    samples.write_bytes(gzip.compress(b"{}\n" * 1000)[:-8])
    found = divmon.read_run(folder).problems
    assert (found.measurements, found.failed, found.incomplete) == (4, (10,), (20,))
    assert (
        "damaged" in found.found[0].reason and "00000020.samples.jsonl.gz: it is not the file" in found.found[1].reason
    )


def test_a_run_that_has_only_failures_names_them(tmp_path: Path) -> None:
    with Store(tmp_path / "a").open(run_dirs.manifest([run_dirs.probe("sums", 2)])) as store:
        store.update(failures=[{"step": 0, "reason": "OutOfMemoryError: 80 GiB"}])
    with pytest.raises(ValueError, match=r"(?s)no whole snapshot.*1 of 1 measurement failed \(step 0\).*80 GiB"):
        divmon.compare([tmp_path / "a"])


def test_steps_in_words() -> None:
    assert steps_in_words([5]) == "step 5" and steps_in_words([5, 9]) == "steps 5 and 9"
    assert steps_in_words(range(10)) == "steps 0, 1, 2, 3, 4, ... 9"
