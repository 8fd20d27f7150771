"""Between two measurements: the likelihood of the reference's completions alone, a forward over stored texts."""

from __future__ import annotations

from typing import Any

from divmon.storage.reader import BETWEEN
from divmon.storage.writer import Store
from divmon.training.budget import Budget
from divmon.training.live_run import LiveRun
from divmon.types import Snapshot

SHARE = 0.01
"""Of the training's time, measurements left aside, that it may take."""


class LikelihoodLooks:
    """When they are due, within their share of the time, and where they are kept.

    Args:
        every: steps between them; None for none.
        start: the step that the training begins or goes on at, and `first` its number among those of a lineage.
    """

    def __init__(self, live: LiveRun, every: int | None, start: int, first: int) -> None:
        self.live, self.every = live, every
        self.seconds = 0.0
        self._budget, self._resume = Budget(SHARE, every, start), first + start
        self._store: Store | None = None

    def due(self, step: int) -> bool:
        """Whether the end of this step may be one, in every process."""
        return self.live.texts is not None and bool(self.every) and step > 0 and step % (self.every or 1) == 0

    def affordable(self, step: int, elapsed: float) -> bool:
        """Whether it is one; in the main process.

        Args:
            elapsed: seconds since the training began.
        """
        live = self.live
        if live.texts is None or live.reference is None or live.texts.failing:  # the next measurement tries again
            return False
        training = elapsed - live.seconds + self.seconds
        return self._budget.allows(step, elapsed=training, measuring=self.seconds, cost=live.texts.cost)

    def take(self, model: Any, step: int, facts: dict[str, Any]) -> Snapshot | None:
        """Measures, stores and logs; every process must call it."""
        live, before = self.live, self.live.seconds
        snapshot = live.take_stored_texts(model, step)
        self.seconds += live.seconds - before
        if snapshot is None or live.store is None or not snapshot.scores:
            return None
        snapshot.provenance.update(facts)
        if self._store is None:
            kept = {name: live.store.manifest[name] for name in ("probes", "figures")}
            folder = live.store.path / BETWEEN
            self._store = Store(folder, say=live.say).open({"kind": BETWEEN, **kept}, resume_step=self._resume)
        if step not in self._store.steps():
            self._store.write(snapshot)
        return snapshot

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
