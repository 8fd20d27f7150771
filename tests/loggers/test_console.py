"""What a person sees in the terminal."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest
from support.hosts import PROBE, Measures, snapshot, train

from divmon.loggers import say, say_once
from divmon.loggers.console import closing_table, console, line, notes, number, progress_bar
from divmon.scoring.figure_registry import Registry
from divmon.types import Change, Sample, Score, Snapshot

NAN = math.nan


def test_the_line_of_results() -> None:
    assert line(snapshot(20)) == "divmon: step 20: gsm8k sbert 0.300 (-0.200 [-0.200, 0.100]), ead -"
    other = Snapshot(5, [], scores=[Score("a", "sbert", 1e-5), Score("b", "x", 12345.6), Score("b", "y", 0.0)])
    assert line(other) == "divmon: step 5: a sbert 0.000; b x 12,346, y 0.000"
    assert line(Snapshot(1, [])) == "divmon: step 1: nothing to show"
    one = Snapshot(
        5, [], scores=[Score("a", "sbert", 0.5)], changes=[Change("a", "sbert", 0.5, 0.4, -0.1, NAN, NAN, 1)]
    )
    assert line(one) == "divmon: step 5: a sbert 0.500 (-0.100)", "no interval, no dashes"


def test_numbers_are_rounded_to_what_is_known() -> None:
    said = {-6.94e-18: "0.000", 4e-4: "0.000", -0.0123: "-0.012", 999.9: "999.900", 1234.5: "1,234", NAN: "-"}
    assert {value: number(value) for value in said} == said
    assert number(-1e-9, "+") == "0.000" and number(0.1, "+") == "+0.100"


def test_the_closing_table_is_aligned_and_has_no_row_of_dashes() -> None:
    last = snapshot(20)
    last.changes.append(Change("starter", "vendi_correct", 12.5, 3, -9.5, NAN, NAN, 64))
    last.changes.append(Change("starter", "ead", NAN, NAN, NAN, NAN, NAN, 0))
    last.changes.append(Change("code", "sbert", 0.25, 0.25 + 1e-17, 1e-17, 0.0, 0.0, 8))
    assert closing_table(last).splitlines() == [
        "divmon: paired change since the reference, at step 20",
        "task     metric         reference    now  change    95 % interval   n",
        "starter  vendi_correct     12.500  3.000  -9.500                   64",
        "gsm8k    sbert              0.500  0.300  -0.200  [-0.200, 0.100]   4",
        "code     sbert              0.250  0.250   0.000   [0.000, 0.000]   8",
    ]


def many(tasks: int) -> Snapshot:
    """Tasks with every figure a run has, the later the greater their loss."""
    names = ("ead", "length_words", "sbert", "vendi_at4", "accuracy", *(f"pass_at{k}" for k in range(1, 17)))
    changes = [
        Change(f"t{t}", name, 1.0, 1 - 0.1 * t, -0.1 * t, -0.1 * t - 0.01, -0.1 * t + 0.01, 8)
        for t in range(tasks)
        for name in names
    ]
    parts = {"change": -0.1, "quality_control": -0.06, "narrowing_correct": -0.03}
    parts |= {"narrowing_wrong": -0.008, "narrowing_cross": -0.002}
    decomposition = {f"t{t}": {"sbert": parts} for t in range(tasks)}
    return Snapshot(9, [], changes=changes, decomposition=decomposition, figures=Registry().of(names))


def test_the_closing_table_has_five_rows_at_most() -> None:
    assert [row.split()[:2] for row in closing_table(many(1)).splitlines()[2:]] == [
        ["t0", "sbert"],
        ["t0", "accuracy"],
        ["t0", "ead"],
        ["t0", "sbert"],
    ]
    assert closing_table(many(1)).splitlines()[-1] == (
        "  t0 sbert -0.100 = -0.060 quality control, -0.030 among correct answers, -0.010 the rest"
    )
    for tasks in (2, 3, 9):
        rows = closing_table(many(tasks)).splitlines()[2:]
        assert len(rows) == 5 and rows[0].startswith(f"t{tasks - 1}"), "the task that lost most comes first"
        assert rows[-1].startswith(f"  t{tasks - 1} sbert -0.100 = ")
    assert "no change since the reference" in closing_table(Snapshot(3, []))


def test_what_must_be_known_first_is_said() -> None:
    truncated = [Sample("gsm8k", "q0", 0, "", "length", 64)]
    scores = [
        Score("gsm8k", "no_answer", 0.125),
        Score("gsm8k", "clipped_ratio", 0.125),
        Score("fine", "no_answer", 0.1),
        Score("none", "no_answer", NAN),
    ]
    decoding = {"gsm8k": {"max_new_tokens": 64}}
    odd = Snapshot(1, truncated, scores=scores, provenance={"suspicion": "all empty", "decoding": decoding})
    assert notes(odd) == [
        "check the sampler before the figures: all empty",
        "gsm8k is NOT COMPARABLE: 12 % of its completions are truncated before their answer, at 64 tokens; raise"
        " max_new_tokens",
    ]
    inside = odd.replace(
        samples=[Sample("gsm8k", "q0", 0, "", "length", 64, reasoning="hm", answered=False)], provenance={}
    )
    assert notes(inside)[0].endswith("at the token limit; raise max_reasoning_tokens")
    looping = odd.replace(scores=[*scores, Score("gsm8k", "repetition", 0.11)], provenance={})
    assert notes(looping)[0].endswith("and 11 % of all text repeats itself: read them before you raise max_new_tokens")
    assert closing_table(odd).splitlines()[-1] == f"divmon: {notes(odd)[1]}"
    said: list[str] = []
    console(say=said.append).log(odd, [PROBE])
    assert said == [line(odd), *(f"divmon: {note}" for note in notes(odd))]
    assert all(text.startswith("divmon: ") for text in said)


def test_no_limit_is_blamed_that_was_not_reached() -> None:
    ended = [Sample("gsm8k", "q0", 0, "", "eos", 9, reasoning="hm", answered=False)]
    scores = [Score("gsm8k", "no_answer", 1.0), Score("gsm8k", "clipped_ratio", 0.0)]
    (note,) = notes(Snapshot(1, ended, scores=scores))
    assert "100 % of its completions ended by themselves inside their reasoning" in note
    assert "truncated" not in note and "raise" not in note and "cut off" not in note


def test_other_processes_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    console(main=False).log(snapshot(2), [PROBE])
    assert capsys.readouterr().out == ""


def test_lines_stand_alone_beside_the_trainers_own_bar(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    train(tmp_path, [], [Measures(lambda *host: console())], disable_tqdm=False)
    out, err = capsys.readouterr()
    assert [text for text in out.splitlines() if "divmon" in text] == [
        line(snapshot(s, changed=s > 0)) for s in (0, 2, 4)
    ]
    assert out.count("'loss'") == 4 and "4/4" in err and "divmon" not in err


def test_the_bar_counts_and_goes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar("divmon: step 3", 4) as done:
        done(4)
    assert capsys.readouterr().err == "", "no debris in a log file"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_bar("divmon: step 3", 4) as done:
        done(3)
        done(1)
    assert "divmon: step 3" in capsys.readouterr().err
    with progress_bar("divmon: step 3", 4, shown=False) as done:
        done(4)
    assert capsys.readouterr().err == ""


def test_in_a_file_a_line_does_not_draw_the_trainers_bar_anew(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm.auto import tqdm

    with tqdm(total=3, file=sys.stderr):
        capsys.readouterr()
        say("divmon: a line")
        assert capsys.readouterr() == ("divmon: a line\n", "")


def test_where_both_outputs_share_a_file_a_line_does_not_continue_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tqdm.auto import tqdm

    with (tmp_path / "log").open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", out)
        with tqdm(total=3, file=out):
            say("divmon: a line")
    seen = (tmp_path / "log").read_bytes().decode()
    assert "0/3" in seen.partition("\ndivmon: a line\n")[0] and seen.count("divmon") == 1


def test_a_notice_is_said_once_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("a", "a", "b"):
        say_once("divmon: a notice", model)
    assert capsys.readouterr().out == "divmon: a notice\n" * 2


@pytest.mark.parametrize("output", ["none", "ascii", "closed"])
def test_a_line_is_said_whatever_the_output_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    raw = io.BytesIO()
    out = None if output == "none" else io.TextIOWrapper(raw, encoding="ascii")
    if output == "closed" and out is not None:
        out.close()
    monkeypatch.setattr("sys.stdout", out)
    with caplog.at_level("INFO", logger="divmon"):
        say("divmon: naïve \ud800")
    assert raw.closed or raw.getvalue() == (b"divmon: na\\xefve \n" if output == "ascii" else b"")
    assert ("naïve" in caplog.text) == (output != "ascii")
