"""A real TensorBoard in a real browser, as a server for tests and as the command that makes the picture of the docs.

divmon demo --out runs/demo && PYTHONPATH=.:tests python -m support.tensorboard_picture runs/demo tensorboard.png
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZE = {"width": 1500, "height": 720}


@contextlib.contextmanager
def tensorboard_server(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard on this folder, with no settings, once it has read the runs in it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while not _has_runs(address):
            assert time.monotonic() < deadline and process.poll() is None, "TensorBoard did not start"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def custom_scalars(browser: Any, address: str) -> Any:
    """A tab that shows Custom Scalars; the caller closes it."""
    tab = browser.new_page(viewport=SIZE)
    tab.goto(f"{address}/?darkMode=false#custom_scalars")
    tab.get_by_text("Output diversity beside the loss").first.wait_for(timeout=60_000)
    return tab


def main(folder: str, picture: str) -> None:
    from playwright.sync_api import sync_playwright

    from support.browsers import launch

    with tensorboard_server(Path(folder)) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        tab = custom_scalars(browser, address)
        tab.wait_for_timeout(5000)  # until all is drawn
        tab.screenshot(path=picture)
        browser.close()


def _has_runs(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/data/runs", timeout=10) as answer:
        return b'"' in answer.read()
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
