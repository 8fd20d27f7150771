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

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from divmon.loggers.console import closing_lines, console
from divmon.options import Options
from divmon.training import best_checkpoint
from divmon.training.budget import Budget
from divmon.training.composition import Composition
from divmon.training.composition.record import describe
from divmon.training.composition.rows import parts_of
from divmon.training.cost import duration
from divmon.training.distributed import Disconnected
from divmon.training.likelihood_looks import LikelihoodLooks
from divmon.training.live_run import LiveRun
from divmon.training.loop_state import Host, Moment
from divmon.training.pricing import Pricing
from divmon.training.rollouts import Rollouts, watch_rollouts
from divmon.training.schedule import Schedule
from divmon.training.trainer_access import candidate_model, reference_model
from divmon.types import Snapshot

logger = logging.getLogger("divmon")


def training_data(options: Options) -> tuple[Composition | None, list[Any]]:
    """What the option `data` names: composed already, or in parts that are still to be read.

    Raises:
        ValueError, FileNotFoundError: it names nothing that can be read.
    """
    if isinstance(options.data, Composition):
        return options.data, []
    return None, [] if options.data is None else parts_of(options.data, options.source_column)


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
        self.failures: list[tuple[int, str]] = []
        """(step, reason) of every measurement that failed in this training."""
        named = options.reference in ("ref_model", "base")
        self.live = LiveRun(
            options,
            loggers=host.loggers,
            trainer=host.trainer,
            reference_model=reference_model(options.reference, host.trainer, model) if named else None,
            candidate=candidate_model(options.reference, host.trainer, model),
            planned_looks=max(len(self.schedule.planned(host.max_steps)) - 1, 0),
            keep_loggers=host.keep_loggers,
        )
        self.live.alarms.check(host.world_size, options.processes)
        best_checkpoint.check(options, host.world_size)
        self._composition, self._parts = training_data(options)
        self._budget = Budget(options.max_overhead, self.schedule.every, host.first_step)
        self._between = LikelihoodLooks(self.live, options.likelihood_every, host.first_step, options.first_step)
        self._rollouts: Rollouts | None = None
        self._began = time.perf_counter()
        self._active = False
        self._tried = -1
        self._latest: Snapshot | None = None
        self._cost = 0.0
        self._pricing = Pricing(self.live, self.schedule, host.max_steps)

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
        self._safely(moment, lambda: self._record_plan(moment), "recording the plan")
        if options.keep_best:
            self._safely(moment, lambda: best_checkpoint.begin(live), "keeping the best checkpoint")
        if options.rollouts and live.processes.is_main:
            self._rollouts = watch_rollouts(host.trainer, live, self._numbered(moment.step))
        if self.schedule.planned(host.max_steps):
            self._safely(moment, lambda: self._say_price(moment), "the price")
        if (self._parts or self._composition) and host.is_main:
            self._safely(moment, self._describe_data, "what the data are made of")
        live.charge(self._elapsed - live.seconds)  # loading the encoder, timing the price: training waited for it too
        first = live.processes.tell(live.reference is None)
        if (self.schedule.at_start or 0 in self.schedule.at) and (moment.step == 0 or first):
            self._measure(moment)

    def step_end(self, moment: Moment) -> None:
        """After each optimizer step; measures where one is due."""
        if self._rollouts is not None and (moment.logs or moment.last):
            self._safely(moment, lambda: self._log_rollouts(moment), "scoring the rollouts")
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
        if self.schedule.at_end:
            self._measure(moment)

    def end(self, moment: Moment) -> None:
        """After the last step: measures unless that was done, shows the closing table, closes store and loggers."""
        if self._rollouts is not None:
            self._safely(moment, self._rollouts.detach, "leaving the rollouts")
        self._safely(moment, lambda: self._record_end(moment), "recording the end")
        if self._active:
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
            self._safely(moment, self._record_seconds, "recording the time")
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
            return live.store is not None and step not in live.store.steps() and self._affordable(step, may_wait)

        # The main process knows what is stored (a resumed run may have this step) and what it costs.
        if not live.processes.decide(wanted, otherwise=False):
            return
        self._tried = step
        first, before = live.reference is None, live.seconds
        snapshot = live.take(moment.model, step, self._facts(moment), at_end=moment.last)
        again = snapshot is not None and snapshot.provenance.get("reused")
        self._cost = self._cost if again else live.seconds - before
        if again:
            live.say("divmon: the reference is the run's before, of the same weights, prompts and decoding")
        elif first:  # the reference samples more than the others
            self._cost *= self.options.num_samples / (self.options.reference_samples or 1)
        if snapshot is not None and not again:
            training = self._elapsed - live.seconds
            self._pricing.restate(moment, snapshot, live.seconds - before, self._cost, training)
        if snapshot is not None and not snapshot.samples:
            raise RuntimeError(f"no prompt could be sampled: {next(iter(snapshot.missing.values()), 'no prompts')}")
        self._latest = snapshot

    def _keep_best(self, moment: Moment) -> None:
        began = time.perf_counter()
        best_checkpoint.keep_if_better(self.live, self._latest, self.host.trainer, moment.model)
        self.live.charge(time.perf_counter() - began)

    def _take_between(self, moment: Moment) -> None:
        live, between = self.live, self._between
        if not live.processes.decide(lambda: between.affordable(moment.step, self._elapsed), otherwise=False):
            return
        snapshot = between.take(moment.model, self._numbered(moment.step), self._facts(moment))
        if snapshot is not None:  # not a line for each
            live.show(snapshot, [], [out for out in live.loggers or [] if not isinstance(out, console)])

    def _facts(self, moment: Moment) -> dict[str, Any]:
        """Of the training, for the snapshot's provenance."""
        every = self.schedule.every
        return {
            "epoch": moment.epoch,
            "examples": moment.step * self.host.examples_per_step,
            "tokens": moment.tokens or None,
            "max_steps": self.host.max_steps,
            "stage": self.options.stage,
            "consumed": self._composition and self._composition.consumed(moment.epoch or 0.0),
            "share_of_run": self.live.seconds / max(self._elapsed, 1e-9),
            "every": every and every * self._budget.thinned,
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

    def _affordable(self, step: int, may_wait: bool) -> bool:
        if not may_wait:
            return True
        budget, live, thinned = self._budget, self.live, self._budget.thinned
        own = step - self.options.first_step
        allowed = budget.allows(own, elapsed=self._elapsed, measuring=live.seconds, cost=self._cost)
        if budget.thinned != thinned and budget.every is not None and live.store is not None:
            now, before = budget.every * budget.thinned, live.store.manifest.get("thinned", [])
            if now not in [change["every"] for change in before]:  # once for each cadence, however steps waver
                live.say(budget.sentence(step, self._cost))
                live.store.append("thinned", {"step": step, "every": now})
        if not allowed and live.store is not None:
            live.store.append("passed_over", step)
        return allowed

    @property
    def _elapsed(self) -> float:
        """Seconds since the training began."""
        return time.perf_counter() - self._began

    def _safely(self, moment: Moment, action: Callable[[], Any], what: str = "the measurement") -> None:
        """Does it; what it raises is recorded with its reason, and training goes on."""
        step = self._numbered(moment.step)
        try:
            with self.live.guarded():
                action()
        except (KeyboardInterrupt, SystemExit, GeneratorExit):  # Ctrl-C, or a signal's handler that ends the program
            raise
        except BaseException as error:  # a tokenizer's panic is no Exception
            self._active = self._active and not isinstance(error, Disconnected)
            if self.options.on_error == "raise":
                raise
            reason = f"{type(error).__name__}: {error}"
            self.failures.append((step, reason))
            self._record_failure(step, reason, what)
            with contextlib.suppress(Exception):  # a handler of the program's own may raise
                logger.warning("divmon: %s at step %d failed, training goes on: %s", what, step, reason)
                logger.debug("divmon: where it failed", exc_info=True)

    def _record_failure(self, step: int, reason: str, what: str) -> None:
        try:
            if self.live.store is not None:
                self.live.store.append("failures", {"step": step, "reason": reason, "what": what})
        except Exception as error:
            with contextlib.suppress(Exception):
                logger.warning("divmon: the failure could not be recorded either: %s", error)

    def _describe_data(self) -> None:
        self._composition = describe(self.live, self._parts, self._composition, self.host.world_size)

    def _say_price(self, moment: Moment) -> None:
        self._pricing.begin(moment, self.host)
        self._cost = self._pricing.expected

    def _log_rollouts(self, moment: Moment) -> None:
        assert self._rollouts is not None
        began = time.perf_counter()
        snapshot = self._rollouts.take(self._numbered(moment.step), epoch=moment.epoch)
        if snapshot is not None:
            # Not a line nor a picture at every logging step; the decomposition's terms are among the changes.
            out = [o for o in self.live.loggers or [] if not isinstance(o, console)]
            self.live.show(snapshot.replace(decomposition={}), self._rollouts.probes, out)
        self.live.charge(time.perf_counter() - began)

    def _finish(self) -> None:
        live, elapsed = self.live, self._elapsed
        if live.store is None:
            return
        self._record_seconds()
        share = 100 * live.seconds / max(elapsed, 1e-9)
        live.say(closing_lines(live.store, live.store.problems()))
        if self.options.keep_best and (line := best_checkpoint.closing_line(live)):
            live.say(line)
        live.say(f"divmon: {duration(live.seconds)} of {duration(elapsed)} ({share:.2g} %) went into measuring")

    def _record_plan(self, moment: Moment) -> None:
        """The steps that are due, so that a reader sees which measurements are missing."""
        if (store := self.live.store) is not None:
            now = self._numbered(moment.step)
            before = [step for step in store.manifest.get("planned", ()) if step < now]
            due = map(self._numbered, self.schedule.planned(self.host.max_steps))
            passed_over = store.manifest.get("passed_over", [])  # a reader sees by it that passing over is recorded
            planned = [*before, *(s for s in due if s > now or moment.step == 0)]
            store.update(planned=planned, passed_over=passed_over, ended=None)

    def _record_end(self, moment: Moment) -> None:
        if (store := self.live.store) is not None:
            store.update(ended=self._numbered(moment.step))

    def _record_seconds(self) -> None:
        """Of this training, added to what earlier parts of the run took."""
        store = self.live.store
        if store is not None:
            before = store.manifest.get("seconds") or {}
            now = {"run": self._elapsed, "monitor": self.live.seconds}
            store.update(seconds={name: before.get(name, 0.0) + value for name, value in now.items()})
