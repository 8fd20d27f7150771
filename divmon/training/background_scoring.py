"""Grades and scores a measurement in a thread of the main process, while training takes its next steps.

A thread shares this process's generators and settings with training, and nothing puts them back while training uses
them. So the thread runs only what leaves them alone (`is_safe`): our own metrics on CPU tensors that the encoders have
given before, and verifiers in processes of their own. What writes, logs or talks to other processes stays in the main
thread, which takes the result at the end of a later step.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from divmon.grading import verifiers
from divmon.grading.users_code import is_ours
from divmon.scoring.metrics import EXPENSIVE, Metric
from divmon.scoring.reference import Measurement

logger = logging.getLogger("divmon")


def leaves_cores(model: Any) -> bool:
    """Whether this model trains on a device of its own; a training on the CPU needs the cores that a thread would."""
    return model is not None and next(model.parameters()).device.type != "cpu"


def is_safe(metrics: Iterable[Metric], rules: Iterable[Any]) -> bool:
    """Whether a thread may score with these metrics and grade with these rules: no code of the user's runs in it, and
    no model.

    Args:
        rules: as options name them, None where a task is not graded.
    """
    return all(is_ours(metric.function) and metric.cost != EXPENSIVE for metric in metrics) and all(
        rule.is_ours or (rule.named and not rule.batch) for rule in map(verifiers.load, set(rules) - {None})
    )


class BackgroundScoring:
    """One measurement that is being scored.

    Args:
        work: gives the measurement.
        at_exit: takes this, where the program ends before anyone else has.
    """

    def __init__(self, work: Callable[[], Measurement], at_exit: Callable[[BackgroundScoring], Any]) -> None:
        self.facts: dict[str, Any] = {"scored_while_training": True}
        """What its snapshot is to hold besides."""
        self._pid, self._at_exit = os.getpid(), at_exit
        context = contextvars.copy_context()  # holds the limit of calls

        def run() -> Measurement:
            try:
                with torch.no_grad():  # what torch keeps by thread
                    return context.run(work)
            except Exception:
                raise
            except BaseException as error:  # it must not end the program that waits for it
                raise RuntimeError(f"{type(error).__name__}: {error}") from error

        threads = ThreadPoolExecutor(1, thread_name_prefix="divmon: scoring")
        self._future = threads.submit(run)
        threads.shutdown(wait=False)  # the thread ends with its work; the interpreter waits for it
        atexit.register(self._exit)

    @property
    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Measurement:
        """The measurement, waited for; raises what the thread raised."""
        atexit.unregister(self._exit)
        return self._future.result()

    def _exit(self) -> None:
        if os.getpid() != self._pid:  # a forked process has no such thread
            return
        try:
            self._at_exit(self)
        except BaseException as error:
            logger.warning("divmon: the last measurement is lost: %s: %s", type(error).__name__, error)
