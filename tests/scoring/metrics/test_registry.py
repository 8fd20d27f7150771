"""Finding a metric: by name, in a file, through an entry point, and what is said when there is none."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from divmon.scoring import metrics

OWN = '''
import torch

COST = "encoder"
USES_ALL_SAMPLES = True

def shout(texts_PK, mask_PK):
    """Share of texts in capitals | 0 to 1 | mine"""
    return torch.tensor([sum(t == t.upper() for t in texts) / len(texts) for texts in texts_PK], dtype=torch.float64)

def picky(texts_PK, tea):
    return shout(texts_PK)
'''


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_a_name_loads_its_file_with_its_constants() -> None:
    vendi = metrics.load("vendi")
    assert vendi.uses_all_samples and vendi.cost == "encoder" and vendi.aggregate["vendi2_at8"] == "harmonic_mean"
    assert vendi.needs == ("embeddings_PKD", "mask_PK") and not vendi.reads_programs
    assert metrics.load("ast_subtree").reads_programs and metrics.load("code_embedding").reads_programs
    assert metrics.load("across").across_prompts and metrics.load("ead").cost == "cheap"


def test_a_file_of_ones_own_loads(own_file: Path) -> None:
    shout = metrics.load(f"{own_file}:shout")
    assert shout.name == "shout" and shout.cost == "encoder" and shout.uses_all_samples
    assert shout.function([["A", "b"]], None).tolist() == [0.5]


def test_an_entry_point_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("lively", "divmon.scoring.metrics.ead:ead", "divmon.scoring.metrics")
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
    with pytest.raises(ValueError, match=r"defines no function 'whisper'; it has shout, picky"):
        metrics.load(f"{own_file}:whisper")
    with pytest.raises(ValueError, match=r"metric 'picky' asks for tea; on offer are texts_PK, mask_PK"):
        metrics.load(f"{own_file}:picky")
    own_file.write_text("import no_such_package")
    with pytest.raises(ValueError, match=r"own.py cannot be imported: ModuleNotFoundError"):
        metrics.load(f"{own_file}:shout")
