"""A real TensorBoard on a real run's files, looked at in a real browser, with no settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browsers import needs_chromium
from support.hosts import Measures, train
from support.tensorboard_picture import custom_scalars, tensorboard_server

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
    with tensorboard_server(folder) as address:
        yield address


def test_the_loss_and_the_diversity_are_drawn_side_by_side(browser: Any, server: str) -> None:
    tab = custom_scalars(browser, server)
    titles = ["loss", "gsm8k: diversity (sbert)", "gsm8k: diversity (ead)"]
    places = [tab.get_by_text(title, exact=True).first.bounding_box(timeout=60_000) for title in titles]
    assert len({place["y"] for place in places}) == 1, "one row"
    assert [place["x"] for place in places] == sorted(place["x"] for place in places)
    tab.close()


def test_the_table_of_hyperparameters_has_the_composition_and_what_came_of_it(browser: Any, server: str) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.goto(f"{server}/#hparams")
    tab.get_by_text("data/web").first.wait_for(timeout=60_000)
    tab.get_by_text("0.75000").first.wait_for(timeout=60_000)
    tab.get_by_text("0.46000").first.wait_for(timeout=60_000)  # sbert at the last step
    tab.close()


def test_diversity_stands_before_the_hosts_curves(browser: Any, server: str) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.goto(f"{server}/?darkMode=false#timeseries")
    tab.get_by_text("Diversity/gsm8k/sbert", exact=True).first.wait_for(timeout=60_000)
    groups = tab.locator("metrics-card-group-toolbar").all_inner_texts()
    assert [re.match("[A-Za-z]+", group)[0] for group in groups] == ["Diversity", "train"], groups
    tab.close()
