"""Two small runs and their page, made once for all of the report's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import report_runs

import divmon
from divmon.analysis.comparison.compare import Comparison
from divmon.analysis.report import write


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return report_runs.two(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def comparison(runs: dict[str, Path]) -> Iterator[Comparison]:
    yield divmon.compare({"narrow": runs["narrow"], "broad": runs["broad"]})


@pytest.fixture(scope="session")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(comparison, tmp_path_factory.mktemp("page") / "report.html", "words")
