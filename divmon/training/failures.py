"""Failures: what goes wrong beside a training is recorded with its reason, and training goes on (contract 2)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from divmon.training.distributed import Disconnected
from divmon.training.live_run import LiveRun

logger = logging.getLogger("divmon")


class Failures:
    """Those of one training."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live
        self.found: list[tuple[int, str]] = []
        """(step, reason) of each."""
        self.disconnected = False
        """The processes have lost each other."""

    def safely(self, step: int, action: Callable[[], Any], what: str) -> None:
        """Does it; what it raises is recorded with its reason, and is raised only with on_error="raise"."""
        try:
            with self.live.guarded():
                action()
        except (KeyboardInterrupt, SystemExit, GeneratorExit):  # Ctrl-C, or a signal's handler that ends the program
            raise
        except BaseException as error:  # a tokenizer's panic is no Exception
            self.disconnected |= isinstance(error, Disconnected)
            if self.live.options.on_error == "raise":
                raise
            reason = f"{type(error).__name__}: {error}"
            self.found.append((step, reason))
            self._record(step, reason, what)
            with contextlib.suppress(Exception):  # a handler of the program's own may raise
                logger.warning("divmon: %s at step %d failed, training goes on: %s", what, step, reason)
                logger.debug("divmon: where it failed", exc_info=True)

    def _record(self, step: int, reason: str, what: str) -> None:
        try:
            if self.live.store is not None:
                self.live.store.append("failures", {"step": step, "reason": reason, "what": what})
        except Exception as error:
            with contextlib.suppress(Exception):
                logger.warning("divmon: the failure could not be recorded either: %s", error)
