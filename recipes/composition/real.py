"""Does form_decoded order four mixtures on a real model? SmolLM2-135M-Instruct, the SFT stages of recipes/smollm2.

    python recipes/composition/real.py --data main=FILE socratic=FILE [--runs runs/smollm2]

Prints what the data alone say of each mixture, and, where its runs are there, how diverse the model was after them.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "smollm2"))
import train
from run import SAMPLED_ROWS

from divmon import read_run
from divmon.scoring.encoders import TextEncoder
from divmon.training.composition.predictors import predictors

STAGES = ("sft-one", "sft-mostly", "sft-mixture", "sft-socratic")


def said_by_the_data(stage: str, files: dict[str, str], encode: Any) -> dict[str, float]:
    """Of a sample of the mixture, which is larger than the 64 rows of a training."""
    turn = train.turn_of(stage, {})
    sources = {name: train.solutions(name, files.get(name)) for name in set(turn)}
    rows = train.sft_rows(sources, SAMPLED_ROWS, random.Random(0), turn)
    sample = [(row["source"], row["prompt"][-1]["content"], row["completion"][0]["content"]) for row in rows]
    found = predictors(sample, encode)
    return {"conditional": found.conditional, "form": found.form, "form_decoded": found.form_decoded}


def left(folder: Path) -> dict[str, float]:
    """Of the last measurement of a run, the figures of all prompts."""
    run = read_run(folder / "_divmon")
    return {score.metric: score.mean for score in run.read(run.steps[-1], samples=False).scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--runs", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--embedder", default="minilm")
    given = parser.parse_args()
    files = dict(pair.split("=", 1) for pair in given.data)
    encoder = TextEncoder(given.embedder, device="cpu").load()
    for stage in STAGES:
        figures = said_by_the_data(stage, files, encoder.encode)
        print(f"{stage:13}", *(f"{name} {value:.3f} " for name, value in figures.items()))
        for folder in sorted(given.runs.glob(f"{stage}-[0-9]")):
            after = left(folder)
            print(f"    {folder.name}: sbert {after['sbert']:.3f}, truncated {after['truncated']:.0%}")


if __name__ == "__main__":
    main()
