"""TrainingRun: when to measure in one training, within which budget, and the promise never to end it (contract 2).

It knows no trainer. A loop of any kind says where it stands, in this order:

    run = TrainingRun(options, Host(output_dir="runs/a", max_steps=1000), model)
    run.begin(Moment(0, model), tokenizer)
    for step in range(1, 1001):
        ...                                                    # the optimizer's step
        moment = Moment(step, model, last=step == 1000)
        run.step_end(moment)
        if moment.signals.should_training_stop: break          # what an alert asked for
    run.end(Moment(step, model))

All that belongs to one training is held here and is gone with it; `DiversityCallback` makes one for each `train()`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from divmon.loggers.console import closing_lines
from divmon.options import Options
from divmon.training import best_checkpoint
from divmon.training.account import Account
from divmon.training.composition.record import describe
from divmon.training.config import training_data
from divmon.training.failures import Failures
from divmon.training.likelihood_looks import LikelihoodLooks
from divmon.training.live_run import LiveRun
from divmon.training.loop_state import Host, Moment
from divmon.training.rollouts import Rollouts, log_window, watch_rollouts
from divmon.training.run_record import record_plan
from divmon.training.schedule import Schedule
from divmon.training.trainer_access import candidate_model, reference_model
from divmon.types import Snapshot


class TrainingRun:
    """One training, from its first step to its last. Every process has one, and all measure together.

    Args:
        model: as the loop trains it.

    Raises:
        ValueError: an option does not fit this training; nothing has begun.
    """

    def __init__(self, options: Options, host: Host, model: Any) -> None:
        self.options, self.host = options, host
        self.schedule = Schedule.of(options, host.max_steps)
        named = options.reference in ("ref_model", "base")
        self.live = LiveRun(
            options,
            loggers=host.loggers,
            trainer=host.trainer,
            reference_model=reference_model(options.reference, host.trainer, model) if named else None,
            candidate=candidate_model(options.reference, host.trainer, model),
            keep_loggers=host.keep_loggers,
        )
        self.live.alarms.planned_looks = max(len(self.schedule.planned(host.max_steps)) - 1, 0)
        self.live.alarms.check(host.world_size, options.processes)
        best_checkpoint.check(options, host.world_size)
        self._composition, self._parts = training_data(options)
        self._failures = Failures(self.live)
        self._account = Account(self.live, host, self.schedule)
        self._between = LikelihoodLooks(self.live, options.likelihood_every, host.first_step, options.first_step)
        self._rollouts: Rollouts | None = None
        self._active = False
        self._tried = -1
        self._latest: Snapshot | None = None

    @property
    def failures(self) -> list[tuple[int, str]]:
        """(step, reason) of every measurement that failed in this training."""
        return self._failures.found

    # -- what the loop says, in its order

    def begin(self, moment: Moment, tokenizer: Any) -> None:
        """Checks and prepares everything, says the price, and measures the reference.

        Raises:
            ValueError, FileNotFoundError, RuntimeError: an option does not fit the model, the tokenizer or the data, or
                another process found something wrong.
        """
        host, options, live = self.host, self.options, self.live
        if options.processes == "main" and not host.is_main:
            return
        live.prepare(
            moment.model,
            tokenizer,
            output_dir=host.output_dir,
            resume_step=self._numbered(moment.step),
            train_dataset=host.train_dataset,
            eval_dataset=host.eval_dataset,
        )
        self._active = True
        self._safely(moment, lambda: self._record_plan(moment.step), "recording the plan")
        if options.keep_best:
            self._safely(moment, lambda: best_checkpoint.begin(live), "keeping the best checkpoint")
        if options.rollouts and live.processes.is_main:
            self._rollouts = watch_rollouts(host.trainer, live, self._numbered(moment.step))
        if self.schedule.planned(host.max_steps):
            self._safely(moment, lambda: self._account.say_price(moment, host), "the price")
        if (self._parts or self._composition) and host.is_main:
            self._safely(moment, self._describe_data, "what the data are made of")
        self._account.charge_what_came_before()
        first = live.processes.tell(live.reference is None)
        if (self.schedule.at_start or 0 in self.schedule.at) and (moment.step == 0 or first):
            self._measure(moment)

    def step_end(self, moment: Moment) -> None:
        """After each optimizer step; measures where one is due."""
        self._settle(moment)
        if self._rollouts is not None and (moment.logs or moment.last):
            rollouts, step = self._rollouts, self._numbered(moment.step)
            self._safely(moment, lambda: log_window(rollouts, self.live, step, moment.epoch), "scoring the rollouts")
        ends = moment.last and self.schedule.at_end
        if ends or self.schedule.due(moment.step):
            self._measure(moment, may_wait=not ends and not self.schedule.listed(moment.step))
        if self._active and self._tried != self._numbered(moment.step) and self._between.due(moment.step):
            self._safely(moment, lambda: self._take_between(moment), "the likelihood of stored completions")

    def evaluated(self, moment: Moment) -> None:
        """After each evaluation of the loop's own."""
        if self.schedule.on_evaluate:
            self._measure(moment)

    def stopped(self, moment: Moment) -> None:
        """An early stop that was asked for after `step_end`: the end is measured while loggers are still open."""
        self._settle(moment, wait=True)
        if self.schedule.at_end:
            self._measure(moment)

    def end(self, moment: Moment) -> None:
        """After the last step: measures unless that was done, shows the closing table, closes store and loggers."""
        if self._rollouts is not None:
            self._safely(moment, self._rollouts.detach, "leaving the rollouts")
        self._safely(moment, lambda: self._record(ended=self._numbered(moment.step)), "recording the end")
        if self._active:
            self._settle(moment, wait=True)
            if self.schedule.at_end:
                self._measure(moment)
            self._safely(moment, self._finish, "the closing table")
            self._between.close()
            self._safely(moment, self.live.close, "closing the store and the loggers")
        self._let_go()

    def abandon(self) -> None:
        """Of a training that will not reach its end: lets go of the store, the loggers and the trainer."""
        moment = Moment(self._tried, None)
        if self._rollouts is not None:
            self._safely(moment, self._rollouts.detach, "leaving the rollouts")
        if self._active:
            self._safely(moment, self._account.record, "recording the time")
            self._between.close()
            self._safely(moment, self.live.close, "closing the store and the loggers")
        self._let_go()

    def _let_go(self) -> None:
        """A callback outlives its trainings: it must not keep their trainer and model alive."""
        self._active = False
        self.live.leave()
        self.host = replace(self.host, trainer=None, train_dataset=None, eval_dataset=None, loggers=None)

    # -- what they share

    def _numbered(self, step: int) -> int:
        """The step as snapshots are numbered: over all stages of a lineage."""
        return self.options.first_step + step

    def _measure(self, moment: Moment, may_wait: bool = False) -> None:
        """Measures and acts on alerts, unless this step already was; what fails is recorded, training goes on.

        Args:
            may_wait: the budget decides whether this step is measured.
        """
        if not self._active or self._numbered(moment.step) == self._tried:
            return
        self._latest = None
        self._safely(moment, lambda: self._take(moment, may_wait))
        if self.options.keep_best and self._active:
            self._safely(moment, lambda: self._keep_best(moment), "keeping the best checkpoint")
        self._act(moment)

    def _take(self, moment: Moment, may_wait: bool) -> None:
        live, step = self.live, self._numbered(moment.step)

        def wanted() -> bool:
            new = live.store is not None and step not in live.store.steps()
            return new and (not may_wait or self._account.affordable(step))

        # The main process knows what is stored (a resumed run may have this step) and what it costs.
        if not live.processes.decide(wanted, otherwise=False):
            return
        self._settle(moment, wait=True)
        self._tried = step
        first, before = live.reference is None, live.seconds
        snapshot = live.take(moment.model, step, self._facts(moment), at_end=moment.last, may_score_later=True)
        if snapshot is not None and snapshot.provenance.get("reused"):
            live.say("divmon: the reference is the run's before, of the same weights, prompts and decoding")
        self._account.took(moment, live.seconds - before, snapshot, is_reference=first)
        _check_samples(snapshot)
        self._latest = snapshot

    def _settle(self, moment: Moment, wait: bool = False) -> None:
        """Takes the measurement that is scored beside training, where it is scored, and acts on its alerts.

        Args:
            wait: until it is. It is waited for after one step too where alerts save or stop, so that they do so at the
                same step however fast this machine is.
        """
        live = self.live
        if not self._active or live.pending is None:
            return
        measured = replace(moment, step=live.pending - self.options.first_step)
        self._safely(measured, lambda: self._settled(measured, wait or moment.last or bool(live.alarms.steering)))
        if live.pending is None:
            self._act(moment)

    def _settled(self, moment: Moment, wait: bool) -> None:
        before, snapshot = self.live.seconds, self.live.settle(wait=wait)
        self._account.took(moment, self._account.cost + self.live.seconds - before, snapshot)
        _check_samples(snapshot)

    def _keep_best(self, moment: Moment) -> None:
        began = time.perf_counter()
        best_checkpoint.keep_if_better(self.live, self._latest, self.host.trainer, moment.model)
        self.live.charge(time.perf_counter() - began)

    def _take_between(self, moment: Moment) -> None:
        live, between = self.live, self._between
        if not live.processes.decide(lambda: between.affordable(moment.step, self._account.elapsed), otherwise=False):
            return
        between.take(moment.model, self._numbered(moment.step), self._facts(moment))

    def _facts(self, moment: Moment) -> dict[str, Any]:
        """Of the training, for the snapshot's provenance."""
        return {
            "epoch": moment.epoch,
            "examples": moment.step * self.host.examples_per_step,
            "tokens": moment.tokens or None,
            "max_steps": self.host.max_steps,
            "stage": self.options.stage,
            "consumed": self._composition and self._composition.consumed(moment.epoch or 0.0),
            "share_of_run": self._account.share,
            "every": self._account.every,
        }

    def _act(self, moment: Moment) -> None:
        """On new alerts; where they save or stop, in every process at once."""
        if not self._active:
            return
        live, signals = self.live, moment.signals
        before = (signals.should_save, signals.should_training_stop)
        self._safely(moment, lambda: live.alarms.act(signals), "acting on an alert")
        now = (signals.should_save, signals.should_training_stop)

        def agree() -> None:
            told = live.processes.tell(now if now != before else None)
            if told is not None:
                signals.should_save, signals.should_training_stop = told

        self._safely(moment, agree, "agreeing on an alert")

    def _safely(self, moment: Moment, action: Callable[[], Any], what: str = "the measurement") -> None:
        """Does it; what it raises is recorded with its reason, and training goes on."""
        try:
            self._failures.safely(self._numbered(moment.step), action, what)
        finally:
            self._active = self._active and not self._failures.disconnected

    def _describe_data(self) -> None:
        self._composition = describe(self.live, self._parts, self._composition, self.host.world_size)

    def _record(self, **facts: Any) -> None:
        if self.live.store is not None:
            self.live.store.update(**facts)

    def _record_plan(self, step: int) -> None:
        if (store := self.live.store) is not None:
            due = map(self._numbered, self.schedule.planned(self.host.max_steps))
            record_plan(store, list(due), self._numbered(step), begins=step == 0)

    def _finish(self) -> None:
        if (live := self.live).store is None:
            return
        self._account.record()
        live.say(closing_lines(live.store, live.store.problems()))
        if self.options.keep_best and (line := best_checkpoint.closing_line(live)):
            live.say(line)
        live.say(self._account.closing_line())


def _check_samples(snapshot: Snapshot | None) -> None:
    if snapshot is not None and not snapshot.samples:
        raise RuntimeError(f"no prompt could be sampled: {next(iter(snapshot.missing.values()), 'no prompts')}")
