"""What a person sees in the terminal."""

from __future__ import annotations

import pytest
from support.hosts import PROBE, Measures, snapshot, train

from divmon.loggers.console import closing_table, console, line, notes, progress_bar
from divmon.types import Change, Sample, Score, Snapshot


def test_the_line_of_results() -> None:
    assert line(snapshot(20)) == "divmon step 20: gsm8k sbert 0.300 (-0.200 [-0.200, 0.100]), ead -"
    other = Snapshot(5, [], scores=[Score("a", "sbert", 1e-5), Score("b", "x", 12345.6), Score("b", "y", 0.0)])
    assert line(other) == "divmon step 5: a sbert 1e-05; b x 1.23e+04, y 0.000"
    assert line(Snapshot(1, [])) == "divmon step 1: nothing to show"


def test_the_closing_table_is_aligned() -> None:
    last = snapshot(20)
    last.changes.append(Change("starter", "vendi_correct", 12.5, 3, -9.5, float("nan"), float("nan"), 64))
    assert closing_table(last).splitlines() == [
        "divmon: paired change since the reference, at step 20",
        "task     metric         reference    now  change    95 % interval   n",
        "gsm8k    sbert              0.500  0.300  -0.200  [-0.200, 0.100]   4",
        "starter  vendi_correct     12.500  3.000  -9.500           [-, -]  64",
    ]


def test_what_must_be_known_first_is_said() -> None:
    cut = [Sample("gsm8k", "q0", 0, "", "length", 64)]
    scores = [
        Score("gsm8k", "truncated", 0.125),
        Score("fine", "truncated", 0.1),
        Score("none", "truncated", float("nan")),
    ]
    odd = Snapshot(
        1, cut, scores=scores, provenance={"suspicion": "all empty", "decoding": {"gsm8k": {"max_new_tokens": 64}}}
    )
    assert notes(odd) == [
        "look at the sampler before the figures: all empty",
        "gsm8k is NOT COMPARABLE: 12 % of its completions were cut off before their answer at 64 tokens;"
        " raise max_new_tokens",
    ]
    inside = odd.replace(
        samples=[Sample("gsm8k", "q0", 0, "", "length", 64, reasoning="hm", answered=False)], provenance={}
    )
    assert notes(inside)[0].endswith("at its limit tokens; raise max_reasoning_tokens")
    assert closing_table(odd).splitlines()[-1] == f"divmon: {notes(odd)[1]}"
    said: list[str] = []
    console(say=said.append).log(odd, [PROBE])
    assert said == [line(odd), *(f"divmon: {note}" for note in notes(odd))]


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


def test_the_bar_counts_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("divmon step 3", 4) as done:
        done(3)
        done(1)
    assert "divmon step 3" in capsys.readouterr().err
    with progress_bar("divmon step 3", 4, shown=False) as done:
        done(4)
    assert capsys.readouterr().err == ""
