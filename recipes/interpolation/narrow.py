"""What `divmon sweep` is tried on: the miniature base, the narrow fine-tuning of the demo, and 32 problems to ask.

    python recipes/interpolation/narrow.py runs/interpolation

writes base (a copy of the cached model), narrow (what came of 60 steps) and problems.jsonl. A minute or two on two
cores.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

from divmon.cli.demo import sft_trainer
from divmon.lineages.miniature import data
from divmon.lineages.miniature.base import base_folder, base_model

SEED, STEPS, PROBLEMS = 0, 60, 32


def main(out: Path) -> None:
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(base_folder(SEED), out / "base", dirs_exist_ok=True)
    asked = [{"id": p.id, "prompt": p.content, "gold": p.gold} for p in data.probe(PROBLEMS, SEED).prompts]
    (out / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    model, tokenizer = base_model(SEED)
    trainer = sft_trainer(out / "trainer", "narrow", model, tokenizer, SEED, STEPS)
    trainer.train()
    trainer.save_model(str(out / "narrow"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
