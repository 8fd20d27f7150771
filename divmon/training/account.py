"""Account: what measuring costs in one training. The price that is said, the budget that is kept, the time recorded."""

from __future__ import annotations

import time

from divmon.training.budget import Budget
from divmon.training.cost import Plan, Price, duration
from divmon.training.live_run import LiveRun
from divmon.training.loop_state import Host, Moment
from divmon.training.schedule import Schedule
from divmon.training.sharded_models import unwrapped
from divmon.training.timing import seconds_per_step
from divmon.training.trainer_access import readable_rows
from divmon.types import Snapshot


class Account:
    """The time of one training and of its measurements, from now on."""

    def __init__(self, live: LiveRun, host: Host, schedule: Schedule) -> None:
        self.live, self.schedule, self._options, self._host = live, schedule, live.options, host
        self._began = time.perf_counter()
        self._budget = Budget(self._options.max_overhead, schedule.every, host.first_step)
        self._said = False
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

    def say_price(self, moment: Moment) -> None:
        """What measuring costs, timed by every process, said by the main one."""
        live, host = self.live, self._host
        ordinary, reference = live.prices(moment.model)
        with live.whole(moment.model):
            rows = readable_rows(host.train_dataset)
            step = seconds_per_step(unwrapped(moment.model), rows, host.rows_per_step) if host.rows_per_step else None
        if live.store is None:
            return
        assert live.asking is not None
        shown = live.asking.requests(1)[0].prompt.text  # of this stage: the manifest's is of the line's first
        live.say(f"divmon: a prompt as the model sees it: {shown!r}")
        self.cost = ordinary.expected
        plan = self._plan(moment, ordinary, reference, step)
        for line in (plan.sentence(), plan.advice(self._options.num_prompts, self._options.num_samples)):
            if line:
                live.say(line)
        said = {**vars(ordinary), "reference": vars(reference), "share_of_training": plan.share(plan.looks)}
        live.store.update(price=live.store.manifest.get("price") or said)
        live.store.append("prices", {"step": self._options.first_step + moment.step, **said})

    def _plan(self, moment: Moment, ordinary: Price, reference: Price, step: float | None) -> Plan:
        """Of the steps to come; `step` is what one of them takes."""
        max_steps = self._host.max_steps
        planned = [s for s in self.schedule.planned(max_steps) if s >= moment.step]
        begins = self.live.reference is None
        later = planned[1:] if begins else planned
        kept = sum(self.schedule.listed(s) or s == max_steps for s in later)
        training = None if step is None else step * max(max_steps - moment.step, 0)
        budget = self._options.max_overhead
        return Plan(ordinary, reference if begins else None, len(later), kept, training or None, budget)

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

    def took(self, seconds: float, snapshot: Snapshot | None, is_reference: bool = False) -> None:
        """What a measurement took of the training's time. After the first one real figures replace the price.

        Args:
            snapshot: None in the other processes, and while it is scored.
        """
        if snapshot is not None and snapshot.provenance.get("reused"):
            return
        # The reference samples more than the others.
        fewer = self._options.num_samples / (self._options.reference_samples or 1) if is_reference else 1.0
        self.cost = seconds * fewer
        if snapshot is not None and not self._said:
            self._say_what_it_took(snapshot, seconds)
            self._said = True

    def _say_what_it_took(self, snapshot: Snapshot, seconds: float) -> None:
        took = snapshot.provenance["seconds"]
        parts = ", ".join(f"{name.replace('judging', 'grading')} {duration(one)}" for name, one in took.items())
        whose = "the reference" if snapshot.provenance["num_samples"] > self._options.num_samples else "the measurement"
        self.live.say(
            f"divmon: {whose} took {duration(seconds)} ({parts}); from here on one measurement likely takes"
            f" {duration(self.cost)}"
        )

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
