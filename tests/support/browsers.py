"""A real Chromium for tests, the system's own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


def launch(playwright: Any) -> Any:
    args = ["--no-sandbox"] if os.getuid() == 0 else []  # root may not use Chromium's own
    return playwright.chromium.launch(executable_path=CHROMIUM, args=args)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


def until(tab: Any, expression: str, seconds: float = 30) -> None:
    """Waits for it; the report's policy forbids the way in which Playwright would."""
    deadline = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < deadline, f"still not: {expression}"
        tab.wait_for_timeout(20)
