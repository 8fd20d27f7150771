"""What the training data are made of, into the record of a run: its manifest, its TensorBoard, a line to the person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from divmon.loggers.tensorboard import tensorboard
from divmon.training.composition import Composition, compose
from divmon.training.composition.rows import Part, characters

LONG = 500_000_000
"""Characters of training data above which several processes do not wait until one has read them."""


def describe(monitor: Any, parts: Sequence[Part], made: Composition | None = None, world_size: int = 1) -> Composition:
    """Composes the data, unless that was done before, and records them under the stage's name.

    Args:
        monitor: a `DiversityMonitor`, prepared; its tokenizer counts, and its metrics and models score.
        made: composed before.
        world_size: processes that wait meanwhile.

    Raises:
        RuntimeError: they would wait too long.
    """
    assert monitor.store is not None and monitor.asking is not None
    options, tokenizer = monitor.options, monitor.asking.renderer.tokenizer
    if made is None:
        if world_size > 1 and characters(parts) > LONG:
            raise RuntimeError(
                "reading so many rows would keep the other processes waiting past their timeout; run `divmon data ..."
                " --json FILE` before, and give data=divmon.training.composition.Composition.read(FILE)"
            )
        made = compose(list(parts), tokenizer=tokenizer, scorer=monitor.scorer, seed=options.seed)
    of_stages = monitor.store.manifest.get("data") or {}
    ours = made.as_dict() | {"from_step": options.first_step}
    monitor.store.update(data={**of_stages, options.stage or "train": ours})
    for out in monitor.loggers or []:
        if isinstance(out, tensorboard):
            out.describe({"divmon/data": made.markdown()}, made.hparams())
    monitor.say(
        f"divmon: training data: {made.rows:,} rows, {made.tokens:,} {made.unit}, {len(made.sources)} source(s)"
    )
    warning = made.warning()
    if warning:
        monitor.say(f"divmon: warning: {warning}")
    return made
