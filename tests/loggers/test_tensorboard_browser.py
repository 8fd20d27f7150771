"""A real TensorBoard on a real run's files, looked at in a real browser, with no settings."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browsers import needs_chromium
from support.hosts import Measures, train

from divmon.loggers.tensorboard import tensorboard

pytestmark = needs_chromium


class Described(Measures):
    """Tells what the training data were made of too."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        def make(callbacks: Any, *rest: Any) -> tensorboard:
            ours = tensorboard(args.output_dir, callbacks)
            ours.describe({"divmon/data": "| web |"}, {"data/web": 0.75})
            return ours

        self.make = make
        super().on_train_begin(args, state, control, model, **kwargs)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("host")
    train(folder, ["tensorboard"], [Described(None)])  # type: ignore[arg-type]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"{address}/data/runs", timeout=10) as answer:
                    if b"runs" in answer.read():
                        break
            except OSError:
                pass
            assert time.monotonic() < deadline and process.poll() is None, "TensorBoard did not start"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_the_layout_is_there_and_drawn(browser: Any, server: str) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.goto(f"{server}/#custom_scalars")
    tab.get_by_text("divmon: change since the reference").first.wait_for(timeout=60_000)
    tab.get_by_text("gsm8k/sbert", exact=True).first.wait_for(timeout=60_000)
    tab.close()


def test_the_table_of_hyperparameters_has_the_composition_and_what_came_of_it(browser: Any, server: str) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.goto(f"{server}/#hparams")
    tab.get_by_text("data/web").first.wait_for(timeout=60_000)
    tab.get_by_text("0.75000").first.wait_for(timeout=60_000)
    tab.get_by_text("0.46000").first.wait_for(timeout=60_000)  # sbert at the last step
    tab.close()


def test_histograms_by_prompt_and_the_hosts_curves_are_both_there(browser: Any, server: str) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.goto(f"{server}/#histograms")
    tab.get_by_text("divmon/gsm8k/sbert/by_prompt").first.wait_for(timeout=60_000)
    tab.goto(f"{server}/?darkMode=false#scalars")
    tab.get_by_text("train", exact=True).first.wait_for(timeout=60_000)
    tab.close()
