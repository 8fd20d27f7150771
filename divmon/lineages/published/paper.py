"""What the paper (arXiv 2604.16027) publishes, as data frames.

The numbers are facts from its tables 3 to 6 (SBERT, EAD, NLI and Vendi of 16 models by task) and 14 (quality-filtered),
kept in paper_tables.csv.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

STOPS: dict[str, tuple[str, ...]] = {
    "tldr": ("\n\n",),
    "cnn_dailymail": ("\n\n",),
    "xsum": ("\n",),
    "humaneval": ("\nclass ", "\ndef ", "\n#", "\nif __name__"),
    "mbpp": ("\nclass ", "\n#", "\nif __name__"),
    "cruxeval": ("\nGiven",),
    "gsm8k": ("\nQuestion:",),
    "math_algebra": ("\nProblem:",),
    "math_geometry": ("\nProblem:",),
    "truthfulqa": ("\nQ:", "\n\n"),
    "alpaca": ("\n\n###", "\n\n##"),
    "ifeval": (),
    "writingprompts": (),
    "prism": (),
    "wildbench": (),
}
"""Stop strings of plain prompts, from the released code; its harness uses none where a chat template is on."""

VOCABULARY = 50257
"""V of EAD, for every model whatever its tokenizer."""


def tables() -> pd.DataFrame:
    """All published numbers, one a row: model, task, metric, value, paper_table."""
    import pandas as pd

    with resources.files(__package__).joinpath("paper_tables.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")
