"""Pricing: what measuring costs, said before the first step and again once it is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from divmon.training.cost import Plan, Price, duration
from divmon.training.live_run import LiveRun
from divmon.training.loop_state import Host, Moment
from divmon.training.schedule import Schedule
from divmon.training.scoring_times import repeated
from divmon.training.sharded_models import unwrapped
from divmon.training.timing import Meter, forward_seconds
from divmon.training.trainer_access import prompts_of, readable_rows
from divmon.types import Prompt, Snapshot

BACKWARD = 3.0
"""A training step over a forward on the same tokens: the forward, and a backward of about two."""


class Pricing:
    """The price of one training's measurements: timed at first, then of the reference, then of the steps it went with.

    Args:
        live: prepared before `begin`.
        max_steps: optimizer steps planned.
    """

    def __init__(self, live: LiveRun, schedule: Schedule, max_steps: int) -> None:
        self._live, self._schedule, self._max_steps = live, schedule, max_steps
        self._plan: Plan | None = None
        self._began = 0
        self._said_again = 0

    @property
    def expected(self) -> float:
        """Seconds of one measurement; 0 where nothing was timed."""
        return self._plan.price.expected if self._plan else 0.0

    def begin(self, moment: Moment, host: Host) -> None:
        """Times a measurement and a training step; every process must call it, the main one says and records it."""
        live, options = self._live, self._live.options
        assert live.asking is not None
        ordinary, wide = (live.asking.requests(n or 1) for n in (options.num_samples, options.reference_samples))
        with live.meter(moment.model) as meter:
            price, reference = meter.price(ordinary), meter.price(wide, at_ends=True)
            step = self._seconds_per_step(unwrapped(moment.model), meter, host)
        if live.store is None:
            return
        if not live.asking.form.guessed:  # else it was said with how prompts are rendered
            live.say(f"divmon: a prompt as the model sees it: {ordinary[0].prompt.text!r}")
        self._began = moment.step
        self._plan = plan = self._planned(price, reference, step)
        for line in (plan.sentence(), plan.advice(options.num_prompts, options.num_samples)):
            if line:
                live.say(line)
        said = {**vars(price), "reference": vars(reference), "share_of_training": plan.share(plan.looks)}
        live.store.update(price=live.store.manifest.get("price") or said)
        live.store.append("prices", {"step": options.first_step + moment.step, **said})

    def restate(self, moment: Moment, snapshot: Snapshot, took: float, cost: float, training: float) -> None:
        """After the first measurement, with what it took; and after the first that steps of training went before.

        Args:
            took: seconds of this measurement; cost: of an ordinary one.
            training: seconds that went into training since it began.
        """
        steps = moment.step - self._began
        if self._plan is None or self._said_again > 1 or (self._said_again and not steps):
            return
        price = self._plan.price
        self._plan = replace(self._plan, price=replace(price, seconds=max(price.seconds, cost), likely=cost))
        if steps:
            left = max(self._max_steps - self._began, 0)
            self._plan = replace(self._plan, training=training / steps * left or None)
        if not self._said_again:
            self._plan = self._with_reference(snapshot, took)
            parts = ", ".join(
                f"{name} {duration(s)}" for name, s in snapshot.provenance["seconds"].items() if s > took / 100
            )
            whose = "the measurement" if self._plan.reference is None else "the reference"
            said = f"divmon: {whose} took {duration(took)} ({parts}); from here on one measurement: "
        else:
            said = f"divmon: a training step takes {duration(training / steps)}, one measurement: "
        self._said_again += 2 if steps else 1
        self._live.say(f"{said}{self._plan.restated()}")

    def _with_reference(self, snapshot: Snapshot, took: float) -> Plan:
        """The plan with what the reference took, where this measurement is the reference."""
        assert self._plan is not None
        reference = self._plan.reference
        if reference is None or self._live.reference is not snapshot:
            return replace(self._plan, reference=None)
        return replace(self._plan, reference=replace(reference, seconds=took, likely=took))

    def _planned(self, price: Price, reference: Price, step: float | None) -> Plan:
        """Of the steps to come; `step` is what one of them takes."""
        last = self._max_steps
        planned = [s for s in self._schedule.planned(last) if s >= self._began]
        begins = self._live.reference is None
        later = planned[1:] if begins else planned
        kept = sum(self._schedule.listed(s) or s == last for s in later)
        training = None if step is None else step * max(last - self._began, 0)
        budget = self._live.options.max_overhead
        return Plan(price, reference if begins else None, len(later), kept, training or None, budget)

    def _seconds_per_step(self, model: Any, meter: Meter, host: Host) -> float | None:
        """About what one training step takes, from one forward on a row of the training data, and, where the trainer
        learns from samples of its own, from the sampling; None where the rows cannot be read."""
        live = self._live
        rows, sampling = readable_rows(host.train_dataset), 0.0
        assert live.asking is not None
        if not rows and (tokens := self._tokens_sampled(host)):
            render = live.asking.renderer.render
            prompts = [Prompt("", content) for content in prompts_of(host.train_dataset)]
            rows = [list(render("", prompt).input_ids) for prompt in prompts]
            if rows:
                row = sorted(rows, key=len)[len(rows) // 2]
                repeats = getattr(host.trainer.args, "num_iterations", 1)
                sampling = meter.generating(row, tokens, host.rows_per_step / repeats, live.asking.requests(1)[0])
                rows = [repeated(row, tokens) + row]
        if not rows or not host.rows_per_step:
            return None
        return forward_seconds(model, rows) * BACKWARD * host.rows_per_step + sampling

    def _tokens_sampled(self, host: Host) -> int:
        """New tokens at most of each completion that the trainer itself samples with the model in this process; 0 where
        it samples none, or another engine does, whose speed is not known."""
        args = getattr(host.trainer, "args", None)
        if getattr(args, "use_vllm", False) and self._live.options.sampler != "vllm":
            return 0
        return getattr(args, "max_completion_length", None) or getattr(args, "max_new_tokens", None) or 0
