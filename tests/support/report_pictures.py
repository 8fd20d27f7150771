"""The pictures of the docs that show the demo's runs: the command that makes them anew.

divmon demo --out runs/demo && PYTHONPATH=.:tests python -m support.report_pictures runs/demo examples
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import divmon
from divmon.analysis.report import write
from divmon.loggers.decomposition_chart import stacked
from support import tensorboard_picture
from support.browsers import launch, until

PARTS = {"report_charts": "#curve", "report_parts": "section[aria-labelledby=parts-title]"}
"""Picture -> what of the page it shows."""
SAMPLES = 1050
"""Pixels shown of the samples."""


def main(demo: str, folder: str) -> None:
    from playwright.sync_api import sync_playwright

    runs, out = Path(demo), Path(folder)
    shutil.copy(runs / "curves.png", out / "demo_curves.png")
    run = divmon.read_run(runs / "narrow")
    parts = {step: run.read(step).decomposition.get("word_problems", {}).get("sbert") for step in run.steps}
    lost = stacked({step: own for step, own in parts.items() if own}, "sbert", "word_problems")
    lost.savefig(out / "demo_decomposition.png", dpi=100)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        page = write(divmon.compare({name: runs / name for name in ("broad", "narrow")}), Path(scratch) / "page.html")
        browser = launch(playwright)
        tab = browser.new_page(viewport={"width": 1100, "height": 900}, device_scale_factor=1.25)
        tab.goto(page.as_uri())
        until(tab, "document.documentElement.dataset.ready")
        tab.wait_for_timeout(3000)  # until all charts are drawn
        ends = [tab.locator(place).bounding_box() for place in ("#read", "#browser")]
        _clip(tab, out / "report_answers.png", 0, ends[0]["y"] + ends[0]["height"] + 16)
        _clip(tab, out / "report_samples.png", ends[1]["y"], SAMPLES)
        for name, place in PARTS.items():
            tab.locator(place).screenshot(path=out / f"{name}.png")
        browser.close()
    tensorboard_picture.main(demo, str(out / "tensorboard.png"))


def _clip(tab: Any, path: Path, top: float, height: float) -> None:
    tab.screenshot(path=path, full_page=True, clip={"x": 0, "y": top, "width": 1100, "height": height})


if __name__ == "__main__":
    main(*sys.argv[1:])
