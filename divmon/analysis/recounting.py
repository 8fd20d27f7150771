"""EAD of stored samples with another vocabulary size than the run's own, so that published numbers compare."""

from __future__ import annotations

import math

from divmon.scoring.intervals import Interval, mean_interval
from divmon.scoring.metrics.ead import ead
from divmon.storage.reader import Run, read_samples


def recounted_ead(run: Run, step: int, task: str, *, vocab_size: int, num_samples: int) -> Interval | None:
    """A task's EAD over the first `num_samples` of each prompt with V = `vocab_size`.

    Prompts with fewer than two answers are undefined and left out.

    Returns:
        The mean over prompts with its interval; None where the texts are not stored whole.

    Raises:
        ValueError: the samples of the step are damaged; the message names the file.
    """
    rows = [row for row in read_samples(run.folder, step) if row["task"] == task and row["index"] < num_samples]
    if not rows or any(row["cut"] for row in rows):
        return None
    texts: dict[str, list[str | None]] = {}
    for row in rows:
        texts.setdefault(row["prompt_id"], []).append(row["text"] if row["answered"] else None)
    interval = mean_interval(ead(list(texts.values()), vocab_size).numpy())
    return None if math.isnan(interval.value) else interval
