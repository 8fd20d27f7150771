"""All three lineages in miniature, and the figures that the paper's story is about.

    python tests/support/lineage_figures.py --seeds 0 1 2 --out replays      # about ten minutes a seed

Prints a table over the seeds, and the time that each part took. What is in --out already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from divmon import compare, read_run
from divmon.lineages.recipes import load
from divmon.lineages.replay.lineage import Lineage
from divmon.lineages.replay.stage import make_tokenizer, options
from divmon.monitor import DiversityMonitor
from support import RECIPES

LINES = {"think": "olmo3-think", "instruct": "olmo3-instruct", "rl_zero_math": "olmo3-rl-zero-math"}
NO_THOUGHT = "olmo3-think-no-thought"
DIVERSITY = "sbert"
"""The paper's own; in percent of the base, the mean over both tasks."""


def replay(out: Path, seed: int, lines: Iterable[str] = LINES) -> dict[str, float]:
    """Runs what is not there yet; seconds of each command."""
    seconds = {}
    for name in lines:
        began = time.perf_counter()
        command = ["replay", str(RECIPES / f"{name}.yaml"), "--scale", "miniature", "--seed", str(seed)]
        subprocess.run([sys.executable, "-m", "divmon", *command, "--out", str(out)], check=True, env=os.environ)
        seconds[name] = round(time.perf_counter() - began, 1)
    return seconds


def suppress(out: Path, seed: int) -> None:
    """Measures the Think stages once more with an empty block of thought."""
    from transformers import AutoModelForCausalLM

    lineage = Lineage(load(RECIPES / "think.yaml", scale="miniature"), out, seed)
    step = 0
    for stage in lineage.recipe.stages.values():
        step = step + int(json.loads((lineage.folder / "replay.json").read_text())["stages"][stage.name]["steps"])
        folder = out / NO_THOUGHT / stage.name
        if (folder / "_divmon").exists() and read_run(folder).steps:
            continue
        asked = {**options(lineage, stage), "think": "off"}
        monitor = DiversityMonitor(**asked, output_dir=str(folder / "_divmon"))
        model = AutoModelForCausalLM.from_pretrained(lineage.final(stage), dtype=torch.float32).eval()
        monitor.measure(model, make_tokenizer(lineage, stage), step, stage=stage.name)
        monitor.close()


def figures(out: Path) -> dict[str, Any]:
    """What the expected directions are about, of one seed."""
    kept = {name: _kept(out / run) for name, run in LINES.items()}
    think = read_run(out / LINES["think"])
    at_sft = read_run(out / LINES["think"]).decomposition.query(f"task == 'word_problems' and metric == '{DIVERSITY}'")
    sft_step = max(step for step in think.steps if think.provenance[step]["stage"] == "sft")
    terms = at_sft[at_sft["step"] == sft_step].set_index("part")
    with_thought = {s: _levels(think, _last(think, s)) for s in ("sft", "dpo", "rl")}
    without = {}
    for stage in with_thought:
        run = read_run(out / NO_THOUGHT / stage)
        without[stage] = _levels(run, run.steps[0])
    base = _levels(think, 0)
    return {
        "kept": kept,
        "base": base,
        "with_thought": with_thought,
        "without_thought": without,
        "terms": {t: {k: float(terms.loc[t, k]) for k in ("value", "low", "high")} for t in terms.index},
    }


def _kept(run: Path) -> dict[str, float]:
    """Percent of the base that each stage has left."""
    table = compare(str(run)).stages
    mean = table.query(f"metric == '{DIVERSITY}' and task == 'mean'")
    return dict(zip(mean["stage"], map(float, mean["kept_percent"]), strict=True))


def _last(run: Any, stage: str) -> int:
    return max(step for step in run.steps if run.provenance[step]["stage"] == stage and step > 0)


def _levels(run: Any, step: int) -> dict[str, float]:
    """Accuracy on the word problems, and the diversity of both tasks."""
    at = run.scores[run.scores["step"] == step].set_index(["task", "metric"])["mean"]
    diverse = [float(at[task, DIVERSITY]) for task in ("word_problems", "stories")]
    return {"accuracy": float(at["word_problems", "accuracy"]), "diversity": sum(diverse) / len(diverse)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("replays"))
    given = parser.parse_args()
    for seed in given.seeds:
        out = given.out / f"seed{seed}"
        seconds = replay(out, seed)
        suppress(out, seed)
        print(json.dumps({"seed": seed, "seconds": seconds, **figures(out)}, indent=1))


if __name__ == "__main__":
    main()
