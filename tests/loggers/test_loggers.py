"""Names and values that every logger shows, the table of completions, and the contract of a logger's file."""

from __future__ import annotations

import html
import importlib
import math
import pkgutil
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hosts import PROBE, snapshot
from tensorboard.plugin_util import markdown_to_safe_html

import divmon.loggers
from divmon.loggers import kept_step, say, scalars, texts
from divmon.scoring.figure_registry import Registry
from divmon.types import Change, Probe, Prompt, Sample, Score, Snapshot

SHARED = ("decomposition_chart", "places", "superseded", "tensorboard_layout", "tensorboard_table", "terminal")
NAN = math.nan
EVERYTHING = Snapshot(
    7,
    [],
    scores=[
        Score("t", "empty", 0, n=3),
        Score("t", "accuracy", 0.75, n=3),
        Score("t", "ead", NAN),
        Score("t", "sbert", np.float32(0.5), n=3),  # type: ignore[arg-type]
    ],
    changes=[
        Change("t", "accuracy", 0.5, 0.75, 0.25, NAN, NAN, 3),
        Change("t", "sbert", 1.0, 0.5, np.float64(-0.5), -1.0, NAN, 3),
        Change("t", "sbert/quality_control", NAN, NAN, -0.1, NAN, NAN, 3),
    ],
    figures=Registry().of(("empty", "accuracy", "ead", "sbert")),
)
LOGGERS = [m.name for m in pkgutil.iter_modules(divmon.loggers.__path__) if m.name not in SHARED]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_file_holds_one_logger_of_its_name(name: str) -> None:
    logger = getattr(importlib.import_module(f"divmon.loggers.{name}"), name)
    assert logger.__doc__ and callable(logger.log) and callable(logger.close)


def test_importing_the_loggers_imports_no_tracker_nor_torch() -> None:
    heavy = {"torch", "transformers", "wandb", "mlflow", "trackio", "tensorboard"}
    code = "; ".join(["import sys", *(f"import divmon.loggers.{name}" for name in LOGGERS)])
    code += f"; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_scalars_are_the_headline_of_each_task_as_python_floats() -> None:
    named = scalars(EVERYTHING)
    assert named == {
        "Diversity/t/sbert": 0.5,
        "Diversity/t/accuracy": 0.75,
        "Diversity/t/sbert_change": -0.5,
        "Diversity/t/sbert_change_low": -1.0,
    }, "what is NaN, and changes of all but the first, are left out"
    assert {type(value) for value in named.values()} == {float}
    assert sorted([*named, "eval/loss", "train/loss", "Loss"])[: len(named)] == sorted(named), "TensorBoard's order"


def test_all_figures_on_request_and_no_name_is_a_folder_of_another() -> None:
    names = scalars(EVERYTHING, everything=True)
    assert names.keys() - scalars(EVERYTHING).keys() == {
        "divmon/t/empty",
        "Diversity/t/accuracy_change",
        "divmon/t/sbert_quality_control_change",
    }
    assert not any(other.startswith(f"{name}/") for name in names for other in names), "MLflow's file store"


def test_a_task_without_a_headline_shows_its_first_figures() -> None:
    whole = Snapshot(0, [], scores=[Score("t", name, 0.1) for name in ("a", "b", "c", "d")])
    assert list(scalars(whole)) == ["Diversity/t/a", "Diversity/t/b", "Diversity/t/c"]


def cells(page: str) -> list[list[str]]:
    """The cells of a page's tables as a browser shows them, without the heads."""
    rows = (re.findall(r"<td>(.*?)</td>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", page, re.S))
    return [[html.unescape(cell.replace("<br>", "\n")) for cell in row] for row in rows if row]


def test_texts_are_one_table_a_task_of_its_first_prompts() -> None:
    whole = snapshot(2).replace(missing={("gsm8k", "q1"): "out of memory"})
    tables = texts(whole, [PROBE, Probe("none", (Prompt("x", "?"),))], few=2, samples=1)
    assert list(tables) == ["divmon/gsm8k/samples", "divmon/none/samples"]
    page = markdown_to_safe_html(tables["divmon/gsm8k/samples"])
    assert cells(page) == [["0", "ungradable", "eos", "5", f"answer 0 | of *q{i}*\n<i>"] for i in range(2)]
    assert "<strong>q0</strong> How many is 0 | <b>twice</b>?<br>Think." in html.unescape(page)
    assert "out of memory" in page and "q2" not in page


def test_reasoning_that_never_closed_is_said_and_other_prompts_show() -> None:
    prompts = (
        Prompt("m", ({"role": "system", "content": "S"}, {"role": "user", "content": "U?"})),
        Prompt("i", (1, 2)),
    )
    whole = Snapshot(0, [Sample("t", "m", 0, "", "length", 9, reasoning="so", answered=False)])
    table = texts(whole, [Probe("t", prompts)])["divmon/t/samples"]
    assert "**m** U?" in table and "(2 token ids)" in table and "(truncated inside its reasoning, no answer)" in table


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=60) | st.text("|\n\r\\`*_<>&#[]-1. \t$", max_size=40))
def test_any_text_stays_one_cell_of_the_table(text: str) -> None:
    """Rendered by TensorBoard's own markdown and sanitiser: as many rows and cells, and the text as it was."""
    whole = Snapshot(0, [Sample("t", "p", k, text, "eos", 1) for k in range(2)])
    table = texts(whole, [Probe("t", (Prompt("p", text),))])["divmon/t/samples"]
    table.encode()
    rows = cells(markdown_to_safe_html(table))
    assert [len(row) for row in rows] == [5, 5]
    kept = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text).encode("utf-8", "replace").decode()
    assert rows[0][4].split() == kept.split()


def test_long_texts_are_cut_at_a_sane_width() -> None:
    whole = Snapshot(0, [Sample("t", "p", 0, "word " * 1000, "eos", 1)])
    table = texts(whole, [Probe("t", (Prompt("p", "long " * 1000),))])["divmon/t/samples"]
    assert len(table) < 1100 and "word…" in table.replace(" …", "…")


def test_kept_step_gives_a_count_back_and_needs_none() -> None:
    class Run:
        _next_step = 3

    run = Run()
    with kept_step(run):
        run._next_step = 10
    with kept_step(None):
        pass
    assert run._next_step == 3


def test_say_writes_past_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm

    with tqdm(total=2) as bar:
        bar.update(1)
        say("divmon: a line")
    assert capsys.readouterr().out.strip().splitlines()[-1] == "divmon: a line"
