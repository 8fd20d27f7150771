"""Finding a metric: by name, in a file, through an entry point, and what is said when there is none."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from divmon.scoring import metrics
from divmon.scoring.metrics import Figure

EAD = "divmon.scoring.metrics.ead:ead"

OWN = """
import torch

from divmon.scoring.metrics import Figure, metric

def differ(texts_PK):
    return torch.zeros(1, 2, 2)

@metric("Share of texts in capitals", figures={"shout": Figure(range=(0, 1))}, all_samples=True)
def shout(texts_PK, embeddings_PKD):
    return torch.tensor([sum(t == t.upper() for t in texts) / len(texts) for texts in texts_PK], dtype=torch.float64)

@metric(pairwise=differ)
def whispers(texts_PK):
    return torch.zeros(1)

def plain(texts_PK):
    return shout(texts_PK, None)

def picky(texts_PK, tea):
    return shout(texts_PK)
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_a_name_loads_its_file_with_what_it_declares() -> None:
    vendi = metrics.load("vendi")
    assert (
        vendi.uses_all_samples and vendi.cost == "encoder" and vendi.figures["vendi2_at8"].aggregate == "harmonic_mean"
    )
    assert vendi.needs == ("embeddings_PKD", "mask_PK") and not vendi.reads_programs
    assert metrics.load("ast_subtree").reads_programs and metrics.load("code_embedding").reads_programs
    assert metrics.load("across").across_prompts and metrics.load("ead").cost == "cheap"


def test_a_file_of_ones_own_loads(own_file: Path) -> None:
    shout = metrics.load(f"{own_file}:shout")
    assert shout.name == "shout" and shout.cost == "encoder" and shout.uses_all_samples
    assert shout.function([["A", "b"]], None).tolist() == [0.5]


def test_two_metrics_of_one_file_declare_each_their_own(own_file: Path) -> None:
    shout, whispers, plain = (metrics.load(f"{own_file}:{name}") for name in ("shout", "whispers", "plain"))
    assert shout.pairwise is None and whispers.pairwise is not None
    assert (whispers.cost, whispers.uses_all_samples) == ("cheap", False)
    assert set(whispers.figures) == {"whispers"} and whispers.figures["whispers"].pairwise
    assert plain.figures == {"plain": Figure(metric="plain")} and not plain.declared
    assert (plain.cost, plain.pairwise, plain.uses_all_samples) == ("cheap", None, False)


def test_an_entry_point_of_another_name_gives_its_figure_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "entry_points", lambda group, name=None: [EntryPoint("lively", EAD, "divmon.metrics")])
    lively = metrics.load("lively")
    assert lively.figures["lively"].metric == "lively" and "ead" not in lively.figures


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"figures": {}}, "'f' declares no figure"),
        ({"figures": {"f": Figure(pairwise=True)}}, "no pairwise= is given, and 1 figures are marked pairwise=True"),
        ({"pairwise": len, "figures": {"f": Figure()}}, "pairwise= is given, and 0 figures are marked"),
        ({"pairwise": len, "figures": {"f": Figure(pairwise=True, diverse="lower")}}, "distances are higher where"),
        (
            {"figures": {"f": Figure(aggregate="median")}},
            "expected an aggregate of mean or harmonic_mean, got 'median'",
        ),
    ],
)
def test_declarations_that_contradict_one_another_are_an_error(declared: dict[str, Any], message: str) -> None:
    def f(texts_PK: Any) -> None: ...

    with pytest.raises(ValueError, match=re.escape(message)):
        metrics.metric(**declared)(f)


def test_an_entry_point_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("lively", EAD, "divmon.metrics")
    monkeypatch.setattr(metrics, "entry_points", lambda group, name=None: [point] if name in (None, "lively") else [])
    assert "lively" in metrics.available()
    assert metrics.load("lively").function([["a", "b"]]).shape == (1,)


def test_an_unknown_name_is_met_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"no metric named 'vendy' \(did you mean 'vendi'\?\); there are across, .*file.py:name"
    ):
        metrics.load("vendy")
    with pytest.raises(ValueError, match=r"no metric named 'vendi_at4' \('vendi' gives the figure of that name\)"):
        metrics.load("vendi_at4")


def test_a_wrong_file_function_or_input_is_named(own_file: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file 'nowhere.py'; expected 'file.py:function'"):
        metrics.load("nowhere.py:f")
    with pytest.raises(ValueError, match=r"defines no function 'whisper'; it has .*shout, whispers, plain, picky"):
        metrics.load(f"{own_file}:whisper")
    with pytest.raises(ValueError, match=r"metric 'picky' asks for tea; on offer are texts_PK, mask_PK"):
        metrics.load(f"{own_file}:picky")
    own_file.write_text("import no_such_package")
    with pytest.raises(ValueError, match=r"own.py cannot be imported: ModuleNotFoundError"):
        metrics.load(f"{own_file}:shout")
