"""Which figure moves first on a real model? SmolLM2-135M-Instruct with LoRA, one source and two, at single steps.

    python recipes/signals/lead_real.py runs/signals-real 0 1 2     the two runs of each of these seeds
    ... --data main=FILE socratic=FILE              rows from files, as recipes/smollm2/train.py takes them

About 12 minutes of one quiet core per run. A run that is finished is kept, one that is not starts again, and the table
of all that are finished is in runs/signals-real/table.txt. Model, rows and training are those of recipes/smollm2.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from pathlib import Path

import torch
from lead import FIGURES, table

sys.path.append(str(Path(__file__).parents[1] / "smollm2"))
from train import BATCH, MEASURED, TRAINED, model_of, sft_rows, solutions

STEPS = (1, 2, 3, 4, 6, 8, 12, 16)
SOURCES = {"sft-one": ("main",), "sft-mixture": ("main", "socratic")}
SIZES = {"num_prompts": 12, "num_samples": 8, "reference_samples": 16, "max_new_tokens": 96}


def train(folder: Path, name: str, seed: int, files: dict[str, str]) -> None:
    from trl import SFTConfig, SFTTrainer

    from divmon import DiversityCallback

    sources = {source: solutions(source, files.get(source)) for source in SOURCES[name]}
    rows = sft_rows(sources, BATCH * STEPS[-1], random.Random(seed))
    model, tokenizer = model_of(name, folder, seed)
    callback = DiversityCallback(
        "word_problems",
        **{**MEASURED, **SIZES},
        output_dir=str(folder / "_divmon"),
        metrics="sbert,ead,token_entropy,cross_entropy",
        every=None,
        at=list(STEPS),
        likelihood_every=None,
        alerts=None,
        seed=seed,
    )
    args = SFTConfig(
        **TRAINED, output_dir=str(folder), max_steps=STEPS[-1], seed=seed, learning_rate=5e-4, max_length=384
    )
    SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[callback]).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of all runs")
    parser.add_argument("seeds", type=int, nargs="+", help="of rows, order, adapter, prompts and samples")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FILE", help="rows from files, not from the hub")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        for name in SOURCES:
            folder = arguments.out / f"{name}-{seed}"
            if not (folder / "finished").exists():
                shutil.rmtree(folder, ignore_errors=True)
                train(folder, name, seed, dict(pair.split("=", 1) for pair in arguments.data))
                (folder / "finished").touch()
            found = table(arguments.out, SOURCES, arguments.seeds, (*FIGURES, "reverse_kl"))
            (arguments.out / "table.txt").write_text(found + "\n")


if __name__ == "__main__":
    main()
