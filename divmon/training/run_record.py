"""What a run is, for its record: what is asked, how, of which model, with which versions (contract 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from divmon import __version__
from divmon.grading import sandbox
from divmon.options import Options
from divmon.scoring.scorer import Scorer
from divmon.scoring.segmentation import SEGMENTATION
from divmon.storage.redaction import fingerprints
from divmon.storage.writer import Store
from divmon.training.protocol import Asking


def manifest(options: Options, asking: Asking, scorer: Scorer, model: Any, processes: int = 1) -> dict[str, Any]:
    """Plain data, but for `probes`, which holds the probes themselves as the store takes them.

    Args:
        model: the model or, where an engine draws in its place, the engine.
        processes: that draw together.
    """
    renderer, tokenizer = asking.renderer, asking.renderer.tokenizer
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or getattr(model, "name", "")
    verifiers = {probe.name: str(asking.verifier(probe)) for probe in asking.probes}
    return {
        "probes": asking.probes,
        "options": options.record() | {"chat_template_kwargs": fingerprints(options.template_arguments) or None},
        "decoding": {name: vars(decoding) for name, decoding in asking.decodings.items()},
        "chat": renderer.chat,
        "think": renderer.think and vars(renderer.think),
        "model": name or type(model).__name__,
        "tokenizer": getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
        "vocab_size": len(tokenizer),
        "words": SEGMENTATION,
        "metrics": scorer.names,
        "figures": scorer.figures.record(),
        "verifiers": verifiers,
        "sandbox": sandbox.record() if "python_tests" in verifiers.values() else None,
        "encoders": scorer.encoders(),
        "judge": scorer.resources.judge and scorer.resources.judge.record(),
        "versions": versions(),
        "processes": processes,
        "rendered_prompt": asking.requests(1)[0].prompt.text,
    }


def record_plan(store: Store, due: Sequence[int], now: int, *, begins: bool) -> None:
    """The steps that are due, so that a reader sees which measurements are missing.

    Args:
        due: those of this training.
        now: the step that it begins or goes on at.
        begins: it is at its own step 0, which may be due.
    """
    before = [step for step in store.manifest.get("planned", ()) if step < now]
    passed_over = store.manifest.get("passed_over", [])  # a reader sees by it that passing over is recorded
    planned = [*before, *(step for step in due if step > now or begins)]
    store.update(planned=planned, passed_over=passed_over, ended=None)


def versions() -> dict[str, str]:
    """Of everything that decides a number."""
    import torch
    import transformers

    return {"divmon": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
