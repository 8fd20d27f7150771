"""What reaches a terminal: nothing it would obey, nothing hidden; tables whole in a pipe and folded on a screen."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.escapes import DANGEROUS, ESCAPES, READS
from support.hosts import PROBE, snapshot

import divmon.loggers
from divmon.loggers import console, terminal
from divmon.loggers.terminal import Table, clean, show, show_json
from divmon.storage.data_frames import write_csv


class Screen(io.StringIO):
    """A terminal 60 columns wide."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "60")
    return Screen()


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_removed_and_its_text_stays(name: str) -> None:
    assert clean(ESCAPES[name]) == READS.get(name, "before after")


@given(st.text(alphabet=st.sampled_from("\x1b[]8;m\x07\x9b\x9d\\\r\n\t0aé日\u202e\u2028\ud800")))
def test_nothing_dangerous_is_left_of_any_text(text: str) -> None:
    once = clean(text)
    assert not re.search(DANGEROUS, once) and clean(once) == once


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


def test_a_table_in_a_pipe_is_plain_and_whole() -> None:
    long = "word " * 200
    out = io.StringIO()
    show(
        Table(["name", "value"], [[long, "1.5"], ["日本語", "22"], ["two\nlines", "-"]], title="T", after=["end"]),
        file=out,
    )
    title, head, *rows, end = out.getvalue().splitlines()
    assert (title, end) == ("T", "end") and head.startswith("name ") and head.endswith("value")
    assert rows[0].startswith(long) and rows[0].endswith("1.5") and rows[2].startswith("two lines ")
    assert "\x1b" not in out.getvalue() and "…" not in out.getvalue() and not re.search(r" \n", out.getvalue())


def test_a_table_on_a_screen_is_folded_and_loses_nothing(screen: Screen) -> None:
    words = [f"word{i}" for i in range(40)]
    show(Table(["name", "value"], [[" ".join(words), "\x1b[31mred"]]), file=screen)
    lines = [re.sub(r"\x1b\[\d+m", "", line) for line in screen.getvalue().splitlines()]
    assert max(map(len, lines)) <= 60 and all(word in " ".join(lines) for word in words)
    assert "\x1b[31m" not in screen.getvalue() and "\x1b[1m" in screen.getvalue()


def test_the_one_color_of_ours_passes_and_no_other(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.delenv("NO_COLOR", raising=False)
    divmon.loggers.say(terminal.red("failed: \x1b[2Jx") + "\nfine \x1b[32mgreen\x1b[0m")
    assert screen.getvalue() == "\x1b[31mfailed: x\x1b[0m\nfine green\n"


def test_json_on_a_screen_reads_back_the_same() -> None:
    value = {"text": "".join(ESCAPES.values())}
    out = io.StringIO()
    show_json(json.dumps(value, ensure_ascii=False, indent=1), file=out)
    assert json.loads(out.getvalue()) == value and not re.search(DANGEROUS, out.getvalue())


def test_a_stream_that_is_missing_or_ascii_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show("█ 日", file=ascii_only)
    monkeypatch.setattr("sys.stdout", ascii_only)
    divmon.loggers.say("█")
    ascii_only.seek(0)
    assert ascii_only.read() == "\\u2588 \\u65e5\n\\u2588\n"
    monkeypatch.setattr("sys.stdout", None)
    divmon.loggers.say("x")
    show("x")


@pytest.mark.parametrize("name", ESCAPES)
def test_the_console_line_and_warnings_are_clean(
    name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A task's name, a suspicion, a problem and a server's error come from outside."""
    measured = snapshot(0, suspicion=ESCAPES[name])
    measured.scores = [dataclasses.replace(score, task=ESCAPES[name]) for score in measured.scores]
    measured.changes = [dataclasses.replace(change, task=ESCAPES[name]) for change in measured.changes]
    console.console().log(measured, [PROBE])
    divmon.loggers.say(console.closing_table(measured))
    with caplog.at_level(logging.WARNING, logger="divmon"):
        logging.getLogger("divmon").warning("divmon: the server answered %s", ESCAPES[name])
    seen = capsys.readouterr().out + caplog.text
    assert "divmon: step" in seen and not re.search(DANGEROUS, seen)


def test_cells_that_a_spreadsheet_would_run_are_text(tmp_path: object) -> None:
    texts = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "plain", "-0.5", "-", None]
    frame = pd.DataFrame({"=run": texts, "n": np.arange(9.0) - 4})
    path = f"{tmp_path}/a.csv"
    write_csv(frame, path)
    read = pd.read_csv(path, keep_default_na=False)
    assert list(read) == ["'=run", "n"] and read["n"].tolist() == list(np.arange(9.0) - 4)
    assert read["'=run"].tolist() == ["'=1+1", "'+cmd", "'-x", "'@SUM(A1)", "'\tx", "plain", "-0.5", "-", ""]
    assert frame["=run"].tolist()[:8] == texts[:8], "the frame itself is as it was"
