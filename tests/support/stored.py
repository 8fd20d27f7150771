"""Snapshots for tests of the store."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from divmon.storage.writer import Store
from divmon.types import Change, Probe, Prompt, Sample, Score, Snapshot, Verdict

PROBE = Probe(
    "gsm8k",
    (
        Prompt("a", "How many?", gold="4", row={"question": "How many?", "hints": [1, 2.5]}, category="reasoning"),
        Prompt("b", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hm?"})),
        Prompt("c", (1, 2, 3)),
    ),
    max_new_tokens=64,
    stop=("\n\n",),
    verifier="number",
    source="package",
)


MANIFEST: dict[str, Any] = {"probes": [PROBE], "config": {"every": 100, "temperature": 0.6}, "model": "tiny"}


def snapshot(step: int, *, samples: int = 2, text: str = "It is 4 | or\n so. é") -> Snapshot:
    def verdict(prompt: Prompt, k: int) -> Verdict:
        return Verdict(None, "no number") if prompt.id == "c" else Verdict(k == 0)

    return Snapshot(
        step,
        [
            Sample("gsm8k", p.id, k, f"{text} {step} {k}", "eos", 7, None if k else "hm", True, verdict(p, k))
            for p in PROBE.prompts
            for k in range(samples)
        ],
        scores=[
            Score("gsm8k", "sbert", 0.1 + step / 7, 0.05, 0.3, 2, (0.1, math.nan, 1 / 3)),
            Score("gsm8k", "ead", math.nan),
        ],
        changes=[Change("gsm8k", "sbert", 0.5, 0.1, -0.4, -0.5, math.nan, 2)] if step else [],
        missing={("gsm8k", "b"): "out of memory"},
        provenance={"tokens": step * 100, "epoch": step / 50, "seconds": {"sampling": 1.5}},
    )


def opened(path: Path, **options: Any) -> Store:
    return Store(path, **options).open(MANIFEST)


def same(a: object, b: object) -> bool:
    """Equal, NaN taken as equal to NaN: repr of a float names it exactly."""
    return repr(a) == repr(b)
