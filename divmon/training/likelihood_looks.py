"""Between two measurements: the likelihood of the reference's completions alone, a forward over stored texts."""

from __future__ import annotations

import time
from typing import Any

from divmon.loggers.console import console
from divmon.storage.reader import BETWEEN
from divmon.storage.writer import Store
from divmon.training.budget import Budget
from divmon.training.live_run import LiveRun

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

    def take(self, model: Any, step: int, facts: dict[str, Any]) -> None:
        """Measures, stores and logs; every process must call it."""
        live, began = self.live, time.perf_counter()
        assert live.texts is not None
        with live.guarded():
            nll = live.texts.of_reference(model)
            if live.store is not None:
                live.texts.record_failures(live.store, step)
        took = time.perf_counter() - began
        live.charge(took)
        self.seconds += took
        snapshot = live.of_stored_texts(nll, live.texts.baseline, step)
        if snapshot is None or live.store is None or not snapshot.scores:
            return
        snapshot.provenance.update(facts)
        if self._store is None:
            kept = {name: live.store.manifest[name] for name in ("probes", "figures")}
            folder = live.store.path / BETWEEN
            self._store = Store(folder, say=live.say).open({"kind": BETWEEN, **kept}, resume_step=self._resume)
        if step not in self._store.steps():
            self._store.write(snapshot)
        live.show(snapshot, [], [out for out in live.loggers or [] if not isinstance(out, console)])  # not a line each

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
