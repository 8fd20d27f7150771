"""DiversityCallback: the monitor in a transformers or TRL trainer. It changes nothing else and never ends a run."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import weakref
from collections.abc import Sequence
from typing import Any, Unpack

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from divmon.loggers import Logger, say
from divmon.loggers.places import host_loggers
from divmon.scoring.alerts import actions
from divmon.training.config import OptionsDict, check_probes, given_options, training_data
from divmon.training.live_run import LiveRun
from divmon.training.loop_state import Host, Moment, close_given
from divmon.training.sharded_models import unwrapped
from divmon.training.trainer_access import find_trainer, is_training
from divmon.training.training_run import TrainingRun


class DiversityCallback(TrainerCallback):
    """Measures the diversity of the model's completions while it trains.

    >>> trainer = SFTTrainer(model, args=args, train_dataset=data,            # doctest: +SKIP
    ...                      callbacks=[DiversityCallback("gsm8k", every=100)])

    Each `train()` is a run of its own: it has its own reference, budget, alerts and failures. `reference=RUN` compares
    with an earlier one.

    Args:
        probes: what to ask: a task's name, several, a JSONL file, strings, a Dataset, "eval", a `Probe`; every form of
            `divmon.prompts.probes.resolve`. The default is 64 prompts that ship with the package.
        config: the options as a `DiversityConfig`, for parsers and YAML files.
        trainer: the trainer, where it cannot be found by itself.
        tokenizer: where the trainer has none; a processor gives its tokenizer.
        loggers: where the scores go; where the trainer itself logs, and the console, where not given. They serve every
            training of this callback and are closed with it.
        options: by keyword, see `divmon.options.Options`.

    Raises:
        TypeError, ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        probes: Any = None,
        *,
        config: Any = None,
        trainer: Any = None,
        tokenizer: Any = None,
        loggers: Sequence[Logger] | None = None,
        **options: Unpack[OptionsDict],
    ) -> None:
        self.options = given_options(config, options, probes)
        self.trainer, self.tokenizer, self.loggers = trainer, tokenizer, loggers
        # What is wrong with these is an error here, not when training begins.
        check_probes(self.options)
        actions(self.options.alerts)
        training_data(self.options)
        self._run: TrainingRun | None = None
        if loggers:
            weakref.finalize(self, close_given, list(loggers))
        self._state: TrainerState | None = None
        """Of the training that `_run` belongs to; hooks of another are not for us."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or one from a file, has the options and nothing of a training.

        Raises:
            TypeError: an option holds what cannot be pickled.
        """
        parts = {**vars(self.options), "loggers": self.loggers, "tokenizer": self.tokenizer}
        for name, value in () if _in_cloudpickle() else parts.items():
            if reason := _cannot_pickle(value):
                raise TypeError(
                    f"this callback cannot be pickled, for its {name} holds {value!r:.80} ({reason}); expected a"
                    " function of a module, or its name as 'file.py:function'"
                )
        return self._copied()

    def __copy__(self) -> DiversityCallback:
        made = object.__new__(type(self))
        vars(made).update(self._copied())
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> DiversityCallback:
        made = object.__new__(type(self))
        memo[id(self)] = made
        vars(made).update(copy.deepcopy(self._copied(), memo))
        return made

    def _copied(self) -> dict[str, Any]:
        return {**vars(self), "trainer": None, "_run": None, "_state": None}

    @property
    def monitor(self) -> LiveRun | None:
        """Of the training that goes on, or of the last one; None before the first."""
        return self._run.live if self._run else None

    @property
    def failures(self) -> list[tuple[int, str]]:
        """(step, reason) of every measurement that failed in this training, or in the last one."""
        return self._run.failures if self._run else []

    # -- the trainer's hooks, in their order; every process runs them, and all measure together

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer, model = self.trainer or find_trainer(self), kwargs["model"]
        if self._run is not None and is_training(self._state):
            say("divmon: this callback is at work in a training already; the one inside of it is not measured")
            return
        if self._run is not None:
            self._run.abandon()  # nothing to do where it reached its end
        self._run, self._state = None, state
        try:
            inner = unwrapped(model)
        except ValueError as error:  # a reward model, say: nothing that an option could put right
            if state.is_world_process_zero:
                say(f"divmon: nothing is measured in this training: {error}")
            return
        loggers = self.loggers
        if loggers is None and state.is_world_process_zero:
            step = self.options.first_step + state.global_step
            everything = self.options.tensorboard == "all"
            loggers = host_loggers(trainer, args, state, control, inner, step, everything)
        rows = args.gradient_accumulation_steps
        host = Host(
            output_dir=self.options.output_dir or os.path.join(args.output_dir or ".", "_divmon"),
            max_steps=state.max_steps,
            first_step=state.global_step,
            world_size=args.world_size,
            is_main=state.is_world_process_zero,
            rows_per_step=args.per_device_train_batch_size * rows,
            examples_per_step=args.train_batch_size * rows * args.world_size,
            train_dataset=getattr(trainer, "train_dataset", None),
            eval_dataset=getattr(trainer, "eval_dataset", None),
            trainer=trainer,
            loggers=loggers,
            keep_loggers=self.loggers is not None,
        )
        self._run = TrainingRun(self.options, host, model)
        tokenizer = self.tokenizer or kwargs.get("processing_class") or getattr(trainer, "processing_class", None)
        self._run.begin(_moment(state, control, model), tokenizer)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # The host's TensorBoard writer is closed before our on_train_end, so the end is measured at the last step.
        if run := self._run_of(state):
            run.step_end(_moment(state, control, kwargs["model"], last=state.global_step >= state.max_steps))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if run := self._run_of(state):
            run.evaluated(_moment(state, control, kwargs["model"]))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # An early stop that another callback asked for after our on_step_end.
        if control.should_training_stop and (run := self._run_of(state)):
            run.stopped(_moment(state, control, kwargs["model"]))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if run := self._run_of(state):
            run.end(_moment(state, control, kwargs["model"], last=True))

    def _run_of(self, state: TrainerState) -> TrainingRun | None:
        return self._run if state is self._state else None


def _cannot_pickle(value: Any) -> str:
    """Why; "" where pickle can."""
    try:
        pickle.dumps(value)
        return ""
    except Exception as error:
        return str(error)


def _in_cloudpickle() -> bool:
    """Whether it is cloudpickle that asks (Ray's, say), which takes lambdas too."""
    frame = inspect.currentframe()
    while frame is not None and "cloudpickle" not in str(frame.f_globals.get("__name__")):
        frame = frame.f_back
    return frame is not None


def _moment(state: TrainerState, control: TrainerControl, model: Any, last: bool = False) -> Moment:
    return Moment(
        step=state.global_step,
        model=model,
        signals=control,
        last=last or control.should_training_stop,
        logs=control.should_log,
        epoch=state.epoch,
        tokens=state.num_input_tokens_seen,
    )
