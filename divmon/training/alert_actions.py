"""Alerts while a run goes on: begun at its reference, looked at after each measurement, acted on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from divmon.options import Options
from divmon.scoring.alerts import Alert, Alerts, act, actions, replay
from divmon.scoring.reference import Measurement
from divmon.storage.writer import Store, read_run
from divmon.types import Probe, Snapshot

logger = logging.getLogger("divmon")


class Alarms:
    """The alerts of a run in the main process.

    Args:
        options: `alerts`, `alert_delta` and `on_error` of them.
        say: shows a person one line.

    Raises:
        ValueError: an action is unknown.
    """

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.standing: list[Alert] = []
        """At the last measurement, until they are acted on."""
        self.planned_looks = 0
        """Measurements after the reference, where that is known: the rate of false alarms is shared out over them."""
        self._actions = actions(self.options.alerts)
        self._tests: Alerts | None = None

    def check(self, processes: int, measuring: str) -> None:
        """Raises ValueError where an alert would save or stop in one of several processes alone, which ends the run."""
        if self.steering and processes > 1 and measuring == "main":
            raise ValueError(
                f"alerts: {', '.join(self.steering)} must be done by all processes at once, and with"
                " processes='main' only one of them measures; expected processes='all', or alerts='log' or a function"
            )

    @property
    def steering(self) -> list[str]:
        """The actions that change what training does."""
        return [str(action) for action in self._actions if action in ("save", "stop")]

    def begin(self, reference: Measurement, probes: Sequence[Probe], store: Store) -> None:
        """What is tested is fixed here, and said with what it can see."""
        if self._actions:
            planned, delta = self.planned_looks, self.options.alert_delta
            self._tests = Alerts(probes, reference.snapshot, planned_looks=planned, delta=delta)
            store.update(alerts=self._tests.record())
            for line in self._tests.opening(reference, self.options.num_samples):
                self.say(line)

    def go_on(self, reference: Measurement, probes: Sequence[Probe], store: Store) -> None:
        """In a run that has a reference already: after the looks it has taken, as its manifest fixed them."""
        if self._actions and store.manifest.get("alerts") and store.steps():
            self._tests = replay(read_run(store.path))[0]
        else:
            self.begin(reference, probes, store)

    def look(self, snapshot: Snapshot) -> None:
        """Tests a measurement and notes what stands in its provenance; a failure costs the alerts, not the snapshot."""
        self.standing = []
        if self._tests is None:
            return
        try:
            self.standing = self._tests.look(snapshot)
        except Exception as error:
            if self.options.on_error == "raise":
                raise
            snapshot.provenance["alerts_failed"] = f"{type(error).__name__}: {error}"
            logger.warning("divmon: alerts could not be tested at step %d: %s", snapshot.step, error)
        snapshot.provenance["alerts"] = [vars(alert) for alert in self.standing]

    def act(self, control: Any = None) -> None:
        """Does what was asked for on those that are new; `control` is the trainer's, where there is one."""
        standing, self.standing = self.standing, []  # each is acted on once
        act(standing, self._actions, control, self.say)
