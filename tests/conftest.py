"""What every test shares: one thread, no hub, and the real rows where they are at hand."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest
from browsers import browser as browser

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """The folder with real rows (`data/`) and golden values (`reference/`), or None where there is none."""
    folder = Path(os.environ.get("DIVMON_TEST_DATA", Path(__file__).parents[2] / "shared"))
    return folder if (folder / "data").is_dir() else None


SANDBOXED = {"test_attacks.py", "test_isolation.py", "test_bubblewrap.py", "test_python_tests.py", "test_channel.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A newcomer's machine may lack bubblewrap; CI installs it, and fails where these are skipped."""
    if shutil.which("bwrap") is None:
        reason = "bubblewrap is not installed: apt-get install bubblewrap"
        for item in items:
            if item.path.name in SANDBOXED:
                item.add_marker(pytest.mark.skip(reason=reason))
