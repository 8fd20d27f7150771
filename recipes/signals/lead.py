"""Which figure moves first? Narrow and broad SFT of the miniature, measured at single steps, five seeds.

    python recipes/signals/lead.py runs/signals     ten minutes of one core; the table is in runs/signals/table.txt

A figure has moved at the first measurement at which the 95 percent interval of its paired change since the reference
leaves out zero, there and at the next one. What is finished is kept, and a second call goes on after it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import divmon

STEPS = (1, 2, 3, 4, 5, 6, 8, 12)
SEEDS = range(5)
FIGURES = ("sbert", "ead", "token_entropy", "forking_tokens", "top1_mass", "own_nll", "reference_nll")


def train(folder: Path, name: str, seed: int, model: Any, tokenizer: Any) -> None:
    from divmon import DiversityCallback
    from divmon.cli.demo import sft_trainer
    from divmon.lineages.miniature import data

    callback = DiversityCallback(
        data.probe(32),
        output_dir=str(folder / "_divmon"),
        metrics="sbert,ead,token_entropy,cross_entropy",
        embedder="minilm",
        reference_samples=32,
        every=None,
        at=list(STEPS),
        likelihood_every=None,
        alerts=None,
        seed=seed,
        progress=False,
    )
    sft_trainer(folder, name, copy.deepcopy(model), tokenizer, seed, STEPS[-1], callbacks=[callback]).train()


def moved(run: Any, figure: str) -> tuple[int | None, str]:
    """The step at which a figure has moved, None where it never has, and which way."""
    changes = run.changes[run.changes["metric"] == figure].sort_values("step")
    signs = [1 if row.low > 0 else -1 if row.high < 0 else 0 for row in changes.itertuples()]
    for i, step in enumerate(changes["step"].tolist()[:-1]):
        if signs[i] and signs[i] == signs[i + 1]:
            return int(step), "+" if signs[i] > 0 else "-"
    return None, ""


def table(out: Path, names: Iterable[str], seeds: Iterable[int], figures: Iterable[str] = FIGURES) -> str:
    """When each figure moved in each finished run, and how many steps before SBERT."""
    figures, seeds = list(figures), list(seeds)
    lines = [f"{'run':12}" + "".join(f"{figure:>16}" for figure in figures)]
    leads: dict[tuple[str, str], list[int | None]] = {}
    for name in names:
        for seed in seeds:
            if not (out / f"{name}-{seed}" / "finished").exists():
                continue
            run = divmon.read_run(out / f"{name}-{seed}")
            at = {figure: moved(run, figure) for figure in figures}
            cells = [f"{step if step is not None else 'never'}{way}" for step, way in at.values()]
            lines.append(f"{name + '-' + str(seed):12}" + "".join(f"{cell:>16}" for cell in cells))
            for figure in figures:
                sbert, own = at["sbert"][0], at[figure][0]
                leads.setdefault((name, figure), []).append(None if sbert is None or own is None else sbert - own)
    lines += ["", "steps before SBERT, by seed (-: one of the two never moved)"]
    for (name, figure), steps in leads.items():
        lines.append(f"{name:12}{figure:16}" + "".join(f"{'-' if step is None else step:>5}" for step in steps))
    return "\n".join(lines)


def main() -> None:
    from divmon.lineages.miniature.base import base_model

    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    model, tokenizer = base_model(0)
    for seed in SEEDS:
        for name in ("narrow", "broad"):
            folder = out / f"{name}-{seed}"
            if not (folder / "finished").exists():
                train(folder, name, seed, model, tokenizer)
                (folder / "finished").touch()
    (out / "table.txt").write_text(table(out, ("narrow", "broad"), SEEDS) + "\n")


if __name__ == "__main__":
    main()
