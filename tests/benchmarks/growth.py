"""How time and memory grow: with prompts, with K, and with the snapshots of a run.

    python tests/benchmarks/growth.py [most]

- prompts and K: the miniature model measured as in training (reference and looks of K samples each, MiniLM, judged,
  compared, decomposed, stored, written to TensorBoard); CPU seconds of a look, the median of three.
- snapshots: one real measurement of 64 prompts x 16 (reference 64), written again and again through the Store and the
  TensorBoard logger with its figures and the numbers in its texts changed at random, so that no two completions are
  alike: more to hold than in a real run. Then read back and reported, each in a process of its own.

Every cell is a process of its own, whose peak of memory it is. `power` is b of cost ~ size^b over the row, 1 where it
is linear, `last` the same of its last two cells, where what is fixed weighs least. A run's first snapshot also pays for
what is loaded when it is first used.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from machine import alone, exponent, head, peak_mb, quiet_model, timed

PROMPTS = (64, 128, 256, 512, 1024)
SAMPLES = (4, 8, 16, 32, 64)
LOOKS = 3


def look(prompts: int, samples: int) -> dict[str, float]:
    """CPU seconds of one look by part, and the peak of memory (MB) with what of it the measuring added."""
    from divmon import DiversityMonitor
    from divmon.lineages.miniature import probe
    from divmon.loggers.tensorboard import tensorboard
    from divmon.sampling.sampler import Sampler
    from divmon.scoring.encoders import TextEncoder
    from divmon.scoring.scorer import Scorer
    from divmon.storage.writer import Store

    model, tokenizer = quiet_model()
    spent: dict[str, float] = {}
    for owner, name in (
        (Sampler, "draw"),
        (TextEncoder, "encode"),
        (Scorer, "score"),
        (Store, "write"),
        (tensorboard, "log"),
        (DiversityMonitor, "measure"),
    ):
        timed(owner, name, spent, time.process_time)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        monitor = DiversityMonitor(
            probe(prompts), num_samples=samples, reference_samples=samples, embedder="minilm", progress=False,
            output_dir=f"{folder}/run", loggers=[tensorboard(folder, say=lambda line: None)], alerts=None,
        )  # fmt: skip
        monitor.say = lambda line: None  # type: ignore[method-assign]
        monitor.measure(model, tokenizer, step=0)
        before = peak_mb()
        for step in range(1, LOOKS + 1):
            spent.clear()
            monitor.measure(model, step=step)
            found.append(dict(spent))
        monitor.close()
    middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return {
        "sample": middle["draw"],
        "encode": middle["encode"],
        "score, the rest": middle["score"] - middle["encode"],
        "write": middle["write"],
        "log to TensorBoard": middle["log"],
        "all": middle["measure"],
        "peak, MB": max(before, peak_mb()),
    }


def measure_once(folder: str) -> None:
    """A real run of two snapshots: what all others are made of."""
    from divmon import DiversityMonitor
    from divmon.lineages.miniature import probe

    model, tokenizer = quiet_model()
    monitor = DiversityMonitor(probe(64), embedder="minilm", progress=False, output_dir=folder, loggers=[], alerts=None)
    for step in (0, 100):
        monitor.measure(model, tokenizer, step=step, examples=16 * step, tokens=1000 * step)
    monitor.close()


def changed(value: Any, rng: random.Random) -> Any:
    """The same with every float a little off; shares of a few samples stay, as most digits are spent on the others."""
    if isinstance(value, dict):
        return {key: changed(item, rng) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(changed(item, rng) for item in value)
    return value + rng.gauss(0, 0.01) if isinstance(value, float) and len(repr(value)) > 8 else value


def later(snapshot: Any, step: int) -> Any:
    """It, as if measured at another step."""
    rng = random.Random(step)

    def other(text: str) -> str:
        return re.sub(r"\d+", lambda number: str(rng.randrange(10 ** len(number[0]))), text) + f" {rng.random():.4f}"

    def off(record: Any) -> Any:
        fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        return dataclasses.replace(record, **changed(fields, rng))

    return snapshot.replace(
        step=step,
        samples=[dataclasses.replace(sample, text=other(sample.text)) for sample in snapshot.samples],
        scores=list(map(off, snapshot.scores)),
        changes=list(map(off, snapshot.changes)),
        decomposition=changed(snapshot.decomposition, rng),
        provenance=snapshot.provenance | {"examples": 16 * step, "tokens": 1000 * step},
    )


def grow(source: str, folder: str, count: int) -> dict[str, float]:
    """Writes a run of so many snapshots, and says what the last of them cost."""
    from divmon import read_run
    from divmon.loggers.tensorboard import tensorboard
    from divmon.storage.writer import Store

    run = read_run(source)
    reference, again = run.read(0), run.read(100)
    writes, logs = [], []
    out = tensorboard(folder, say=lambda line: None)
    manifest = {name: value for name, value in run.manifest.items() if name not in ("format", "divmon", "created")}
    with Store(f"{folder}/_divmon", max_samples_mb=1e6).open({**manifest, "probes": run.probes}) as store:
        for i in range(count):
            snapshot = reference if i == 0 else later(again, 100 * i)
            began = time.process_time()
            store.write(snapshot)
            written = time.process_time()
            out.log(snapshot, run.probes)
            writes.append(written - began)
            logs.append(time.process_time() - written)
    out.close()
    sizes = {
        part: sum(f.stat().st_size for f in Path(folder, part).rglob("*") if f.is_file())
        for part in ("_divmon", "runs")
    }
    return {
        "write one, ms": 1000 * statistics.median(writes[-10:]),
        "log one to TensorBoard, ms": 1000 * statistics.median(logs[-10:]),
        "run directory, MB": sizes["_divmon"] / 1e6,
        "TensorBoard, MB": sizes["runs"] / 1e6,
        "writing, peak MB": peak_mb(),
    }


def read(folder: str) -> dict[str, float]:
    """CPU seconds of reading a run back as frames."""

    from divmon import read_run
    from divmon.types import TERMS  # noqa: F401

    found, began = {}, time.process_time()
    run = read_run(folder)
    for name in ("scores", "changes", "decomposition", "per_prompt", "samples"):
        assert len(getattr(run, name)) or name in ("changes", "decomposition")
        found[f"read up to {name}, s"] = time.process_time() - began
        if name == "per_prompt":
            found["reading figures, peak MB"] = peak_mb()
    return found


def report(folder: str) -> dict[str, float]:
    """CPU seconds of the report as HTML, and what it weighs."""
    import divmon
    from divmon.analysis.report import write

    began = time.process_time()
    comparison = divmon.compare([folder])
    compared = time.process_time()
    page = write(comparison, Path(folder, "report.html"))
    return {
        "compare, s": compared - began,
        "report, s": time.process_time() - compared,
        "report, MB": page.stat().st_size / 1e6,
        "report, peak MB": peak_mb(),
    }


def table(title: str, sizes: Sequence[int], cells: Sequence[dict[str, float]]) -> None:
    print(f"\n{title:28}" + "".join(f"{size:>9,}" for size in sizes) + f"{'power':>8}{'last':>8}")
    for name in cells[0]:
        costs = [cell[name] for cell in cells]
        powers = exponent(sizes, costs), exponent(sizes[-2:], costs[-2:])
        print(f"{name:28}" + "".join(f"{c:9.4g}" for c in costs) + "".join(f"{b:8.2f}" for b in powers), flush=True)


def main(most: int = 1000) -> None:
    print(head("torch", "transformers", "sentence-transformers", "pandas"))
    print("the miniature model; CPU seconds; sizes in 10^6 bytes")
    table("a look: prompts, K 16", PROMPTS, [alone(look, count, 16) for count in PROMPTS])
    table("a look: K, 64 prompts", SAMPLES, [alone(look, 64, count) for count in SAMPLES])
    counts = [10**i for i in range(round(math.log10(most)) + 1)]
    parts: Sequence[Callable[[str], dict[str, float]]] = (read, report)
    with tempfile.TemporaryDirectory() as folder:
        alone(measure_once, f"{folder}/once")
        cells = []
        for count in counts:
            run = f"{folder}/{count}"
            cells.append(alone(grow, f"{folder}/once", run, count))
            for part in parts:
                cells[-1] |= alone(part, run)
    table("a run: snapshots, 64 x 16", counts, cells)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
