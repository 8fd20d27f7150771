"""Account: what measuring costs in one training. The price that is said, the budget that is kept, the time recorded."""

from __future__ import annotations

import time

from divmon.training.budget import Budget
from divmon.training.cost import duration
from divmon.training.live_run import LiveRun
from divmon.training.loop_state import Host, Moment
from divmon.training.pricing import Pricing
from divmon.training.schedule import Schedule
from divmon.types import Snapshot


class Account:
    """The time of one training and of its measurements, from now on."""

    def __init__(self, live: LiveRun, host: Host, schedule: Schedule) -> None:
        self.live, self.schedule, self._options = live, schedule, live.options
        self._began = time.perf_counter()
        self._budget = Budget(self._options.max_overhead, schedule.every, host.first_step)
        self._pricing = Pricing(live, schedule, host.max_steps)
        self.cost = 0.0
        """Seconds that an ordinary measurement takes: as the price says, and then as the last one took."""

    @property
    def elapsed(self) -> float:
        """Seconds since the training began."""
        return time.perf_counter() - self._began

    @property
    def share(self) -> float:
        """Of the training's time so far, what went into measuring."""
        return self.live.seconds / max(self.elapsed, 1e-9)

    @property
    def every(self) -> int | None:
        """Steps between measurements, as the budget now has it."""
        return self.schedule.every and self.schedule.every * self._budget.thinned

    def charge_what_came_before(self) -> None:
        """Loading the encoder, timing the price: training waited for that too."""
        self.live.charge(self.elapsed - self.live.seconds)

    def say_price(self, moment: Moment, host: Host) -> None:
        """What measuring costs, timed by every process, said by the main one."""
        self._pricing.begin(moment, host)
        self.cost = self._pricing.expected

    def affordable(self, step: int) -> bool:
        """Whether a measurement that may be left out is taken, which is recorded; in the main process."""
        budget, live, thinned = self._budget, self.live, self._budget.thinned
        own = step - self._options.first_step
        allowed = budget.allows(own, elapsed=self.elapsed, measuring=live.seconds, cost=self.cost)
        if budget.thinned != thinned and budget.every is not None and live.store is not None:
            now, before = budget.every * budget.thinned, live.store.manifest.get("thinned", [])
            if now not in [change["every"] for change in before]:  # once for each cadence, however steps waver
                live.say(budget.sentence(step, self.cost))
                live.store.append("thinned", {"step": step, "every": now})
        if not allowed and live.store is not None:
            live.store.append("passed_over", step)
        return allowed

    def took(self, moment: Moment, seconds: float, snapshot: Snapshot | None, is_reference: bool = False) -> None:
        """What a measurement took of the training's time. After the first ones real figures replace the price.

        Args:
            snapshot: None in the other processes, and while it is scored.
        """
        if snapshot is not None and snapshot.provenance.get("reused"):
            return
        # The reference samples more than the others.
        fewer = self._options.num_samples / (self._options.reference_samples or 1) if is_reference else 1.0
        self.cost = seconds * fewer
        if snapshot is not None:
            self._pricing.restate(moment, snapshot, seconds, self.cost, self.elapsed - self.live.seconds)

    def record(self) -> None:
        """The seconds of this training, added to what earlier parts of the run took."""
        store = self.live.store
        if store is not None:
            before = store.manifest.get("seconds") or {}
            now = {"run": self.elapsed, "monitor": self.live.seconds}
            store.update(seconds={name: before.get(name, 0.0) + value for name, value in now.items()})

    def closing_line(self) -> str:
        """For the end of a training."""
        share = f"{100 * self.share:.2g} %"
        return f"divmon: {duration(self.live.seconds)} of {duration(self.elapsed)} ({share}) went into measuring"
