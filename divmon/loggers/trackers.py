"""The host's other trackers (W&B, MLflow, trackio, ...), each through its own callback's `on_log`.

Never through `Trainer.log`: that takes the host's own pending rows along and reaches the console and users' callbacks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from divmon import loggers
from divmon.types import Probe, Snapshot


class trackers:
    """The headline of each task, to all the trackers that the trainer reports to, TensorBoard apart.

    A tracker that fails is named once and left out from then on; training and the others go on.

    Args:
        callbacks: the trainer's callbacks.
        args, state, control, model: as the trainer hands them to a callback; `state` is read at each call.
        everything: all other figures too.
        say: called with the one line about each tracker that drops out.
    """

    def __init__(
        self,
        callbacks: Sequence[Any],
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        *,
        everything: bool = False,
        say: Callable[[str], None] = loggers.say,
    ) -> None:
        self._callbacks = [callback for callback in callbacks if is_tracker(callback)]
        self._args, self._state, self._control, self._model = args, state, control, model
        self._everything, self._say = everything, say
        self._begun: set[int] = set()
        self._look()

    @property
    def names(self) -> list[str]:
        """Of the trackers that are logged to."""
        return [type(callback).__name__.removesuffix("Callback") for callback in self._callbacks]

    def log(self, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        named = loggers.scalars(snapshot, self._everything)
        state = copy.copy(self._state)
        state.global_step = snapshot.step
        for callback in list(self._callbacks):
            try:
                if self._ended(callback):
                    raise RuntimeError("the trainer has closed its run")
                with loggers.kept_step(_trackio_run(callback)):
                    callback.on_log(self._args, state, copy.copy(self._control), logs=dict(named), model=self._model)
            except Exception as error:
                self._callbacks.remove(callback)
                name = type(callback).__name__.removesuffix("Callback")
                self._say(f"divmon: no longer logging to {name}: {type(error).__name__}: {error}")
        self._look()

    def close(self) -> None:
        """Nothing: the runs are the host's."""

    def _look(self) -> None:
        self._begun |= {id(callback) for callback in self._callbacks if getattr(callback, "_initialized", False)}

    def _ended(self, callback: Any) -> bool:
        """The host has closed its run: at the next call MLflow and trackio would open one that nobody asked for."""
        mlflow = getattr(callback, "_ml_flow", None)
        begun = id(callback) in self._begun
        return begun and (not callback._initialized or (mlflow is not None and mlflow.active_run() is None))


def is_tracker(callback: Any) -> bool:
    """Whether what `on_log` runs is the library's own: not the console's, nor a user's, who may do anything in it.

    TensorBoard has its own logger. DVCLive counts calls as steps: one of ours would move all later rows of the host.
    """
    from transformers.integrations import DVCLiveCallback, TensorBoardCallback

    at_home = type(callback).on_log.__module__.startswith("transformers.integrations")
    return at_home and not isinstance(callback, (TensorBoardCallback, DVCLiveCallback))


def _trackio_run(callback: Any) -> Any:
    trackio = getattr(callback, "_trackio", None)
    return trackio and trackio.context_vars.current_run.get()
