"""What the monitor costs a training run, end to end: time against the budget, memory, start.

    python tests/benchmarks/overhead.py [steps]

Each run is a process of its own: SFT of the miniature model with TRL, the monitor at its default cadence (every 100
steps, the start and the end; K 16, reference 64) on 8 prompts, where a measurement costs about as much as twenty steps.

- by its clock: the monitor's own seconds over the run's, as the run directory records them: preparing, timing the price
  and measuring.
- from outside: the run's seconds that are not inside its training steps, by a callback that stands before the monitor,
  over all, less the same share of a run without it (data, logging). Nothing hides there but what would slow the steps
  themselves, and both are of one run, so that shared cores shift it little.
- fixed: preparing, the reference and the last snapshot, which no budget thins by design, so a run must be long enough
  for them: the reference alone, at four times the samples, is worth four snapshots.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from machine import alone, head, peak_mb, quiet_model, timed

BUDGETS = (None, 0.1, 0.05)
PROMPTS, ROWS = 8, 16
STARTS = 21
"""Interpreters started for a median."""


def trainer(folder: str, steps: int, callbacks: list[Any], use_cpu: bool = True) -> Any:
    """SFT of the miniature model, ready to train."""
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from divmon.lineages.miniature import broad

    disable_progress_bars()
    model, tokenizer = quiet_model()
    made = SFTTrainer(
        model,
        args=SFTConfig(
            folder, max_steps=steps, per_device_train_batch_size=ROWS, learning_rate=1e-4, use_cpu=use_cpu, bf16=False,
            report_to="tensorboard", save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(broad(ROWS * 100)),
        processing_class=tokenizer,
        callbacks=callbacks,
    )  # fmt: skip
    made.remove_callback(PrinterCallback)
    return made


def run(
    steps: int, monitored: bool, budget: float | None = None, metrics: str = "auto", use_cpu: bool = True
) -> dict[str, float]:
    """One run, in this process."""
    from transformers import TrainerCallback

    from divmon import DiversityCallback, read_run
    from divmon.lineages.miniature import probe

    class Clock(TrainerCallback):
        """The seconds inside the training steps."""

        seconds = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.seconds += time.perf_counter() - self.began

    clock = Clock()
    options = {"max_overhead": budget, "metrics": metrics, "embedder": "minilm", "progress": False, "on_error": "raise"}
    with tempfile.TemporaryDirectory() as folder:
        ours = [DiversityCallback(probe(PROMPTS), **options)] if monitored else []
        made = trainer(folder, steps, [clock, *ours], use_cpu)
        began = time.perf_counter()
        made.train()
        wall = time.perf_counter() - began
        found = {"steps": clock.seconds / steps, "beside": 1 - clock.seconds / wall, "peak": peak_mb()}
        if monitored:
            stored = read_run(folder)
            spent = stored.manifest["seconds"]
            took = [facts["total_seconds"] for _, facts in sorted(stored.provenance.items())]
            # A snapshot's record counts the seconds up to its own end; the last one closes after it was written.
            fixed = took[0] + spent["monitor"] - took[-2]
            found |= {"share": spent["monitor"] / spent["run"], "fixed": fixed / spent["run"], "snapshots": len(took)}
    return found


def first() -> dict[str, float]:
    """Seconds of the parts of the first measurement of a run, at the default 64 prompts, 64 samples each."""
    import divmon.callback
    from divmon import DiversityCallback
    from divmon.lineages.miniature import probe
    from divmon.loggers.tensorboard import tensorboard
    from divmon.scoring.encoders import TextEncoder
    from divmon.scoring.scorer import Scorer
    from divmon.storage.writer import Store
    from divmon.training.account import Account
    from divmon.training.live_run import LiveRun

    spent: dict[str, float] = {}
    for owner, name in (
        (LiveRun, "prepare"),
        (TextEncoder, "load"),
        (Account, "say_price"),
        (TextEncoder, "encode"),
        (Scorer, "score"),
        (Store, "write"),
        (tensorboard, "log"),
        (LiveRun, "take"),
    ):
        timed(owner, name, spent, time.perf_counter)  # not CPU seconds: answers are judged in other processes
    with tempfile.TemporaryDirectory() as folder:
        monitor = DiversityCallback(probe(64), every=None, at_end=False, embedder="minilm", progress=False)
        made = trainer(folder, 1, [monitor])
        made.train()
        assert not monitor.failures, monitor.failures
        seconds = divmon.read_run(folder).provenance[0]["seconds"]
    return spent | seconds


def started(program: str) -> float:
    """CPU seconds of a fresh interpreter that runs it."""
    code = "import resource as r; u = r.getrusage(r.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
    said = subprocess.run([sys.executable, "-c", f"{program}\n{code}"], capture_output=True, text=True, check=True)
    return float(said.stdout)


def medians(programs: list[str], times: int) -> list[float]:
    """Of alternating starts."""
    found = [[started(program) for program in programs] for _ in range(times)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def rows(steps: int) -> list[tuple[str, str, str]]:
    """What is measured, the number, the target."""
    bare, ours = medians(["pass", "import divmon"], STARTS)
    heavy = "import sys, divmon; assert not {'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)"
    started(heavy)
    trl, callback = medians([f"from trl import SFTTrainer{more}" for more in ("", "\nimport divmon.callback")], 3)
    found = [
        (
            "import divmon, over python -c pass",
            f"{1000 * (ours - bare):.1f} ms ({1000 * bare:.0f} to {1000 * ours:.0f})",
            "100 ms",
        ),
        ("  loads torch or transformers", "no", "no"),
        ("the callback, over trl's SFTTrainer", f"{callback - trl:.2f} s ({trl:.1f} to {callback:.1f})", ""),
    ]
    parts = alone(first)
    shown = {
        "load: the encoder": parts["load"],
        "load: the rest of what is prepared": parts["prepare"] - parts["load"],
        "price: timed on two prompts": parts["say_price"],
        "sample": parts["sampling"],
        "judge": parts["grading"],
        "encode": parts["encode"],
        "score: the rest": parts["score"] - parts["encode"],
        "write": parts["write"],
        "log to TensorBoard": parts["log"],
    }
    total = parts["prepare"] + parts["say_price"] + parts["take"]
    shown["not covered"] = total - sum(shown.values())
    found.append(("first measurement, 64 prompts x 64", f"{total:.1f} s", ""))
    found += [(f"  {name}", f"{value:.2f} s ({value / total:.1%})", "") for name, value in shown.items()]
    without = alone(run, steps, False)
    runs = [(budget, alone(run, steps, True, budget)) for budget in BUDGETS]
    apart = f"{1000 * without['steps']:.0f} ms a step, {without['beside']:.1%} beside them"
    found += [(f"{steps} steps without the monitor", apart, ""), ("  peak memory", f"{without['peak']:.0f} MB", "")]
    for budget, one in runs:
        limit = "" if budget is None else f"{1.2 * budget:.1%}"
        found += [
            (f"max_overhead {budget or 'None'}: by its clock", f"{one['share']:.1%}, fixed {one['fixed']:.1%}", limit),
            ("  from outside", f"{one['beside'] - without['beside']:.1%}", limit),
            ("  a training step", f"{1000 * one['steps']:.0f} ms", ""),
            ("  snapshots, of those asked for", f"{one['snapshots']:.0f} of {steps // 100 + 1}", ""),
            ("  peak memory over training alone", f"{one['peak'] - without['peak']:+.0f} MB", ""),
        ]
    cheap = alone(run, 100, True, None, "ead,duplicates,length")
    found.append(("without an encoder, peak memory over training", f"{cheap['peak'] - without['peak']:+.0f} MB", ""))
    return found


def main(steps: int = 2000) -> None:
    print(head("torch", "transformers", "trl", "sentence-transformers"))
    print(f"SFT of the miniature model, {ROWS} rows a step; {PROMPTS} prompts x 16, reference 64, every 100, MiniLM\n")
    found = rows(steps)
    wide = max(len(name) for name, _, _ in found)
    print(f"{'':{wide}}  {'measured':34}  at most")
    for name, value, limit in found:
        print(f"{name:{wide}}  {value:34}  {limit}".rstrip())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
