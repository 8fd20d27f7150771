"""DiversityCallback: when to measure, and the promise to change nothing else and never to end a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from divmon.guard import undisturbed_rng
from divmon.loggers.console import closing_lines, console
from divmon.loggers.places import host_loggers
from divmon.monitor import DiversityMonitor
from divmon.training.budget import Budget
from divmon.training.composition import Composition
from divmon.training.composition.record import describe
from divmon.training.composition.rows import parts_of
from divmon.training.cost import seconds_per_step
from divmon.training.distributed import Disconnected
from divmon.training.rollouts import Rollouts, watch_rollouts
from divmon.training.schedule import Schedule
from divmon.training.sharded_models import unwrapped
from divmon.training.trainer_access import find_trainer, readable_rows, reference_model

logger = logging.getLogger("divmon")


class DiversityCallback(TrainerCallback):
    """Measures the diversity of the model's completions while it trains.

    >>> trainer = SFTTrainer(model, args=args, train_dataset=data,            # doctest: +SKIP
    ...                      callbacks=[DiversityCallback("gsm8k", every=100)])

    Args:
        probes: what to ask: a task's name, several, a JSONL file, strings, a Dataset, "eval", a `Probe`; every form of
            `divmon.prompts.probes.resolve`. The default is 64 prompts that ship with the package.
        config: the options as a `DiversityConfig`, for parsers and YAML files.
        trainer: the trainer, where it cannot be found by itself.
        tokenizer: where the trainer has none; a processor gives its tokenizer.
        options: by keyword, see `divmon.options.Options`.

    Raises:
        TypeError, ValueError: an option is unknown or out of range.
    """

    def __init__(
        self, probes: Any = None, *, config: Any = None, trainer: Any = None, tokenizer: Any = None, **options: Any
    ) -> None:
        self.monitor = DiversityMonitor(probes, config=config, **options)
        self.options = self.monitor.options
        self.schedule = Schedule.of(self.options)
        self.trainer = trainer
        self.tokenizer = tokenizer
        data = self.options.data
        self._composition: Composition | None = data if isinstance(data, Composition) else None
        self._parts = [] if data is None or self._composition else parts_of(data, self.options.source_column)
        self.failures: list[tuple[int, str]] = []
        """(step, reason) of everything that failed."""
        self._failed: list[dict[str, Any]] = []
        self._rollouts: Rollouts | None = None
        self._active = False
        self._began = 0.0
        self._tried = -1
        self._budget = Budget(None, None)
        self._cost = 0.0

    # -- the trainer's hooks, in their order; every process runs them, and all measure together

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._began, self._tried = time.perf_counter(), -1
        self._budget = Budget(self.options.max_overhead, self.schedule.every, state.global_step)
        self.monitor.seconds = 0.0
        trainer, model = self.trainer or find_trainer(self), kwargs["model"]
        try:
            inner = unwrapped(model)
        except ValueError as error:  # a reward model, say: nothing that an option could put right
            if state.is_world_process_zero:
                self.monitor.say(f"divmon: nothing is measured in this training: {error}")
            return
        self.monitor.trainer = trainer
        self.monitor.alarms.planned_looks = len(self.schedule.planned(state.max_steps)) - 1
        if self.options.reference in ("ref_model", "base"):
            self.monitor.reference_model = reference_model(self.options.reference, trainer, model)
        if state.is_world_process_zero:
            self.monitor.loggers = host_loggers(trainer, args, state, control, inner, self._step(state))
        self.monitor.alarms.check(args.world_size, self.options.processes)
        if self.options.processes == "main" and not state.is_world_process_zero:
            return
        self.monitor.prepare(
            model,
            self.tokenizer or kwargs.get("processing_class") or getattr(trainer, "processing_class", None),
            output_dir=self.options.output_dir or os.path.join(args.output_dir or ".", "_divmon"),
            resume_step=self._step(state),
            train_dataset=getattr(trainer, "train_dataset", None),
            eval_dataset=getattr(trainer, "eval_dataset", None),
        )
        self._active = True
        self._safely(self._step(state), lambda: self._record_plan(state), "recording the plan")
        if self.options.rollouts and self.monitor.processes.is_main:
            self._rollouts = watch_rollouts(trainer, self.monitor, self._step(state))
        if self.schedule.planned(state.max_steps):
            self._safely(self._step(state), lambda: self._say_price(args, state, model, trainer), "the price")
        if (self._parts or self._composition) and state.is_world_process_zero:
            self._safely(self._step(state), lambda: self._describe_data(args.world_size), "what the data are made of")
        self.monitor.seconds = self._elapsed  # loading the encoder, timing the price: the training waited for it too
        first = self.monitor.processes.tell(self.monitor.reference is None)
        if (self.schedule.at_start or 0 in self.schedule.at) and (state.global_step == 0 or first):
            self._measure(args, state, control, model)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # The host's TensorBoard writer is closed before our on_train_end, so the end is measured at the last step.
        last = state.global_step >= state.max_steps or control.should_training_stop
        if self._rollouts is not None and (control.should_log or last):
            self._safely(self._step(state), lambda: self._log_rollouts(state), "scoring the rollouts")
        ends = last and self.schedule.at_end
        if ends or self.schedule.due(state.global_step):
            may_wait = not ends and not self.schedule.listed(state.global_step)
            self._measure(args, state, control, kwargs["model"], last, may_wait)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.schedule.on_evaluate:
            self._measure(args, state, control, kwargs["model"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # An early stop that another callback asked for after our on_step_end.
        if control.should_training_stop and self.schedule.at_end:
            self._measure(args, state, control, kwargs["model"], last=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._rollouts is not None:
            self._safely(self._step(state), self._rollouts.detach, "leaving the rollouts")
        if (store := self.monitor.store) is not None:
            self._safely(self._step(state), lambda: store.update(ended=self._step(state)), "recording the end")
        if not self._active:
            return
        if self.schedule.at_end:
            self._measure(args, state, control, kwargs["model"], last=True)
        self._safely(self._step(state), self._finish, "the closing table")
        self._safely(self._step(state), self.monitor.close, "closing the store and the loggers")
        self._active = False

    # -- what they share

    def _step(self, state: TrainerState) -> int:
        """The step as snapshots are numbered: over all stages of a lineage."""
        return self.options.first_step + state.global_step

    def _measure(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        last: bool = False,
        may_wait: bool = False,
    ) -> None:
        """Measures and acts on alerts, unless this step already was; what fails is recorded, training goes on
        (contract 2).

        Args:
            may_wait: the budget decides whether this step is measured.
        """
        step = self._step(state)
        if not self._active or step == self._tried:
            return
        examples = state.global_step * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        facts = {
            "epoch": state.epoch,
            "examples": examples,
            "tokens": state.num_input_tokens_seen or None,
            "max_steps": state.max_steps,
            "stage": self.options.stage,
            "consumed": self._composition and self._composition.consumed(state.epoch or 0.0),
            "share_of_run": self.monitor.seconds / max(self._elapsed, 1e-9),
            "every": self.schedule.every and self.schedule.every * self._budget.thinned,
        }
        self._safely(step, lambda: self._take(model, step, facts, last, may_wait))
        self._act(state, control)

    def _take(self, model: Any, step: int, facts: dict[str, Any], last: bool, may_wait: bool) -> None:
        monitor = self.monitor

        def wanted() -> bool:
            return monitor.store is not None and step not in monitor.store.steps() and self._affordable(step, may_wait)

        # The main process knows what is stored (a resumed run may have this step) and what it costs.
        if not monitor.processes.decide(wanted, otherwise=False):
            return
        self._tried = step
        first, before = monitor.reference is None, monitor.seconds
        monitor.take(model, step, facts, at_end=last)
        self._cost = monitor.seconds - before
        if first:  # the reference draws more samples than the others
            self._cost *= self.options.num_samples / (self.options.reference_samples or 1)

    def _act(self, state: TrainerState, control: TrainerControl) -> None:
        """On new alerts; where they save or stop, in every process at once."""
        if not self._active:
            return
        monitor, before = self.monitor, (control.should_save, control.should_training_stop)
        self._safely(self._step(state), lambda: monitor.alarms.act(control), "acting on an alert")
        now = (control.should_save, control.should_training_stop)

        def agree() -> None:
            told = monitor.processes.tell(now if now != before else None)
            if told is not None:
                control.should_save, control.should_training_stop = told

        self._safely(self._step(state), agree, "agreeing on an alert")

    def _affordable(self, step: int, may_wait: bool) -> bool:
        if not may_wait:
            return True
        budget, monitor, thinned = self._budget, self.monitor, self._budget.thinned
        own = step - self.options.first_step
        allowed = budget.allows(own, elapsed=self._elapsed, measuring=monitor.seconds, cost=self._cost)
        if budget.thinned != thinned and budget.every is not None and monitor.store is not None:
            now, before = budget.every * budget.thinned, monitor.store.manifest.get("thinned", [])
            if now not in [change["every"] for change in before]:  # each cadence is said once, however steps waver
                monitor.say(budget.sentence(step, self._cost))
            monitor.store.update(thinned=[*before, {"step": step, "every": now}])
        return allowed

    @property
    def _elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._began

    def _safely(self, step: int, action: Callable[[], Any], what: str = "the measurement") -> None:
        try:
            with undisturbed_rng():
                action()
        except Exception as error:
            self._active = self._active and not isinstance(error, Disconnected)
            if self.options.on_error == "raise":
                raise
            reason = f"{type(error).__name__}: {error}"
            self.failures.append((step, reason))
            self._failed.append({"step": step, "what": what, "reason": reason})
            logger.warning("divmon: %s at step %d failed, training goes on: %s", what, step, reason)
            logger.debug("divmon: where it failed", exc_info=True)
            self._record_failures()

    def _record_plan(self, state: TrainerState) -> None:
        """The steps that are due, so that a reader sees which measurements are missing."""
        if (store := self.monitor.store) is not None:
            now = self._step(state)
            before = [step for step in store.manifest.get("planned", ()) if step < now]
            due = [self.options.first_step + step for step in self.schedule.planned(state.max_steps)]
            store.update(planned=[*before, *(s for s in due if s > now or state.global_step == 0)], ended=None)

    def _record_failures(self) -> None:
        try:
            if (store := self.monitor.store) is not None:
                before = [failure for failure in store.manifest.get("failures", ()) if failure not in self._failed]
                store.update(failures=[*before, *self._failed])  # of a resumed run those before the checkpoint too
        except Exception as error:
            logger.warning("divmon: the failure could not be recorded either: %s", error)

    def _describe_data(self, world_size: int) -> None:
        self._composition = describe(self.monitor, self._parts, self._composition, world_size)

    def _log_rollouts(self, state: TrainerState) -> None:
        assert self._rollouts is not None
        began = time.perf_counter()
        snapshot = self._rollouts.take(self._step(state), epoch=state.epoch)
        if snapshot is not None:
            # Not a line nor a picture at every logging step; the decomposition's terms are among the changes.
            out = [o for o in self.monitor.loggers or [] if not isinstance(o, console)]
            self.monitor.show(snapshot.replace(decomposition={}), self._rollouts.probes, out)
        self.monitor.seconds += time.perf_counter() - began

    def _say_price(self, args: TrainingArguments, state: TrainerState, model: Any, trainer: Any) -> None:
        """What measuring costs, timed by every process, said by the main one."""
        options, monitor = self.options, self.monitor
        price = monitor.price(model)
        rows = readable_rows(getattr(trainer, "train_dataset", None))
        with monitor.whole(model):
            rows_per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
            step = seconds_per_step(unwrapped(model), rows, rows_per_step)
        if monitor.store is None:
            return
        assert options.reference_samples is not None and monitor.asking is not None
        shown = monitor.asking.requests(1)[0].prompt.text  # of this stage: the manifest's is of the line's first
        monitor.say(f"divmon: a prompt as the model sees it: {shown!r}")
        self._cost = price.seconds
        planned = [s for s in self.schedule.planned(state.max_steps) if s >= state.global_step]
        extra = options.reference_samples / options.num_samples - 1 if monitor.reference is None else 0
        share = price.share(len(planned) + extra, state.max_steps - state.global_step, step)
        monitor.say(price.sentence(share, options.max_overhead))
        monitor.store.update(price={**vars(price), "share_of_training": share})

    def _finish(self) -> None:
        monitor, elapsed = self.monitor, self._elapsed
        if monitor.store is None:
            return
        monitor.store.update(seconds={"run": elapsed, "monitor": monitor.seconds})
        share = 100 * monitor.seconds / max(elapsed, 1e-9)
        monitor.say(closing_lines(monitor.store, monitor.store.problems()))
        monitor.say(f"divmon: {monitor.seconds:.3g} s of {elapsed:.3g} s ({share:.2g} %) went into measuring")
