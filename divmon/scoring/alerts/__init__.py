"""Collapse detection: at most 1 percent of healthy runs alarm, whatever the number of looks and tests.

    alerts = Alerts(probes, reference, planned_looks=20)     once, when the reference is measured
    alerts.look(snapshot)                                    after each measurement: the alerts that stand
    replay_alerts("runs/a")                                  where they would have fired in a run that is over

Every (task, kind) is a test at every look (`alerts.tests`); they share the rate by Bonferroni, which holds whatever
their dependence. The number of tests and the planned looks are fixed at the start and kept in the run's manifest.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy.special import stdtrit

from divmon.grading.users_code import within
from divmon.options import from_file
from divmon.scoring.alerts.hypotheses import DELTA, TESTS, Figures, Finding, possible
from divmon.scoring.alerts.messages import TITLES, evidence, title
from divmon.scoring.alerts.power import sight
from divmon.storage.reader import Run, read_run
from divmon.types import Probe, Snapshot

if TYPE_CHECKING:
    from divmon.scoring.reference import Measurement

ALPHA = 0.01
"""The share of healthy runs that may alarm."""

OF_THE_MEASUREMENT = ("truncation", "sampler")
"""Kinds that say that figures cannot be trusted, not that the model is at fault: no reason to stop training."""

Action = str | Callable[["Alert"], Any]
ACTIONS = ("log", "save", "stop")


@dataclass(frozen=True)
class Alert:
    """One kind of collapse in one task; `text` has three lines: what, what to read, and the evidence."""

    kind: str
    """One of `alerts.tests.TESTS`, or "sampler"."""
    task: str
    """Empty where it concerns all tasks."""
    step: int
    since: int
    """The first step of the unbroken series of looks at which it stands."""
    text: str
    change: float
    """Of the tested figure since the reference, `low` and `high` its 95 percent interval; NaN of a sampler."""
    low: float
    high: float
    n: int
    """Prompts behind the change."""
    prompts: tuple[str, ...]
    """Ids of those that show most of it, three at most."""
    t: float
    threshold: float

    @property
    def new(self) -> bool:
        """It did not stand at the look before."""
        return self.step == self.since


class Alerts:
    """The tests of one run, one look after another.

    Args:
        probes: what is asked; scores of reasoning ("<task>-full") are not tested.
        reference: the snapshot that changes are taken against.
        planned_looks: T, measurements that are planned after the reference; 0 where that is not known.
        tests: (task, kind) as an earlier part of the run fixed them; chosen by what the reference holds where None.
        delta: the loss that is healthy, as a share of the reference.
        alpha: the share of healthy runs that may alarm.

    Raises:
        ValueError: `delta` or `alpha` is no share, or `planned_looks` is negative.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        reference: Snapshot,
        *,
        planned_looks: int = 0,
        tests: Iterable[Sequence[str]] | None = None,
        delta: float = DELTA,
        alpha: float = ALPHA,
    ) -> None:
        for name, value in {"delta": delta, "alpha": alpha}.items():
            if not 0 < value < 1:
                raise ValueError(f"{name}: expected a share above 0 and below 1, got {value}")
        if planned_looks < 0:
            raise ValueError(f"planned_looks: expected 0 or more, got {planned_looks}")
        self.reference = reference
        self.planned_looks, self.delta, self.alpha = planned_looks, delta, alpha
        self.looks = 0
        """Taken so far."""
        self._ids = {probe.name: [prompt.id for prompt in probe.prompts] for probe in probes}
        self._before = {task: Figures(reference, task) for task in self._ids}
        missing = {(task, kind): possible(kind, self._before[task]) for task in self._ids for kind in TESTS}
        self.tests = [pair for pair, reason in missing.items() if reason is None]
        self.untested = {pair: reason for pair, reason in missing.items() if reason is not None}
        """(task, kind) -> why it is not tested."""
        if tests is not None:
            self.tests = [(task, kind) for task, kind in tests]
        self._since: dict[tuple[str, str], int] = {}
        self._course: dict[str, list[Any]] = {}
        """By task, `Figures.course` of each look."""

    def record(self) -> dict[str, Any]:
        """What is fixed at the start, for the manifest: `Alerts(probes, reference, **record)` goes on with it."""
        return {
            "planned_looks": self.planned_looks,
            "tests": [list(pair) for pair in self.tests],
            "delta": self.delta,
            "alpha": self.alpha,
        }

    def level(self, look: int) -> float:
        """a_t, the level of each test at this look, counted from 1: the levels of all add up to alpha at most."""
        tests, planned = max(len(self.tests), 1), self.planned_looks
        return self.alpha / (tests * ((planned + 1) if look <= planned else look * (look + 1)))

    def look(self, snapshot: Snapshot) -> list[Alert]:
        """The alerts that stand at this measurement; those that did not stand before are `new`.

        Where the sampler is suspicious, here or at the reference, that is the one alert: no collapse is called.
        """
        self.looks += 1
        for where in (snapshot, self.reference):
            if where.provenance.get("suspicion"):
                return [self._sampler(snapshot, where)]
        self._since.pop(("", "sampler"), None)
        now = {task: Figures(snapshot, task) for task in self._ids}
        for task, figures in now.items():
            course = self._course.setdefault(task, [])
            figures.earlier = tuple(course)
            course.append(figures.course)
        standing = []
        for task, kind in self.tests:
            if task not in now:
                continue
            found = TESTS[kind][0](self._before[task], now[task], self.delta)
            if found is None:
                continue
            threshold = -float(stdtrit(found.df, self.level(self.looks)))
            if found.t > threshold:
                self._since.setdefault((task, kind), snapshot.step)
                standing.append(self._alert(kind, task, snapshot, now[task], found, threshold))
            else:
                self._since.pop((task, kind), None)
        return standing

    def opening(self, reference: Measurement, num_samples: int) -> list[str]:
        """What is tested and what it can see, in lines for a person; once, when the reference is measured.

        Args:
            reference: with its distances; what a task without them can see is not said.
            num_samples: K, of a look.
        """
        tests, planned = len(self.tests), self.planned_looks
        looks = f"{planned} evaluations" if planned > 1 else "one planned evaluation" if planned else "evaluations"
        each = "at each of the " if planned > 1 else "at the " if planned else "at all "
        lines = [
            f"{tests} test{'' if tests == 1 else 's'} {each}{looks};"
            f" at most {100 * self.alpha:g} % of healthy runs alarm"
        ]
        if self.reference.provenance.get("suspicion"):
            lines.append("the reference's sampler is suspicious, so no collapse will be called")
        for task, before in self._before.items():
            if (task, "narrowing") in self.untested:
                lines.append(f"narrowing of {task} is not tested: {self.untested[task, 'narrowing']}")
            elif before.tested is not None and (task, before.tested) in reference.distances:
                found = sight(reference.distances[task, before.tested], reference.correct.get(task), num_samples)
                lines += [f"{task}: {found.sentence(before.tested, self.level(1), self.delta)}"] if found else []
        return [f"divmon: alerts: {line}" for line in lines]

    def _alert(self, kind: str, task: str, snapshot: Snapshot, now: Figures, found: Finding, threshold: float) -> Alert:
        before, since = self._before[task], self._since[task, kind]
        prompts = tuple(self._ids[task][p] for p in found.worst)
        line = evidence(kind, before, now, found, prompts, f"against step {self.reference.step}", threshold)
        return Alert(
            kind=kind,
            task=task,
            step=snapshot.step,
            since=since,
            text=f"{title(kind, before, now)} of {task}{_when(since, snapshot.step)}: {line}",
            change=found.change.value,
            low=found.change.low,
            high=found.change.high,
            n=found.n,
            prompts=prompts,
            t=found.t,
            threshold=threshold,
        )

    def _sampler(self, snapshot: Snapshot, where: Snapshot) -> Alert:
        since = self._since.setdefault(("", "sampler"), snapshot.step)
        text = (
            f"{TITLES['sampler']}{_when(since, snapshot.step)}: {where.provenance['suspicion']}"
            f" (at step {where.step})\nRead a few completions beside their prompts; no collapse is called until this is"
            " settled"
        )
        nan = math.nan
        return Alert("sampler", "", snapshot.step, since, text, nan, nan, nan, 0, (), nan, nan)


def _when(since: int, step: int) -> str:
    return f" at step {step}" if since == step else f" at step {step}, since step {since}"


def actions(given: Any) -> tuple[Action, ...]:
    """What is to be done on an alert: "log", "save", "stop", a function of the alert or "file.py:function".

    Several are given in a list, or as names with commas.

    Raises:
        ValueError: a name is none of these.
    """
    several = given.split(",") if isinstance(given, str) else [given] if callable(given) else list(given or ())
    chosen: list[Action] = []
    for action in (one.strip() if isinstance(one, str) else one for one in several):
        if isinstance(action, str) and ":" in action:
            action = from_file("action", action)
        if not callable(action) and action not in ACTIONS:
            raise ValueError(
                f"no action {action!r} on an alert; there are {', '.join(ACTIONS)}, a function, or 'file.py:function'"
            )
        chosen.append(action)
    return tuple(chosen)


def act(alerts: Sequence[Alert], chosen: Sequence[Action], control: Any, say: Callable[[str], None]) -> None:
    """Does it for each new alert: "log" says what and what to read, "save" and "stop" set the trainer's flags, a
    function is called.

    Saving and stopping are for what is wrong with the model, not for what is wrong with its measurement.

    Args:
        control: a `TrainerControl`, or None without a trainer.
    """
    new = [alert for alert in alerts if alert.new]
    if "log" in chosen:
        for alert in new:
            for line in alert.text.splitlines()[:2]:
                say(f"divmon: {line}")
    if control is not None and any(alert.kind not in OF_THE_MEASUREMENT for alert in new):
        control.should_save |= "save" in chosen
        control.should_training_stop |= "stop" in chosen
    for function in filter(callable, chosen):
        for alert in new:
            within(function, lambda function=function, alert=alert: function(alert))  # type: ignore[misc]


def replay(run: Run) -> tuple[Alerts, list[Alert]]:
    """The tests of a stored run after all its looks, and the alerts that stood at any of them.

    With what the manifest holds under "alerts"; where it holds nothing, the looks there are count as those planned. A
    resumed run goes on with the `Alerts` that it gives. Damaged snapshots are named in a warning and left out.

    Raises:
        FileNotFoundError: the run was compared with another run's reference, which is not there.
        ValueError: it has no snapshot, or its reference is damaged.
    """
    source = _compared_with(run)
    if not source.steps:
        raise ValueError(f"no snapshot in {source.folder}, so nothing to look at")
    reference = source.read(int(source.manifest.get("reference_step", source.steps[0])))
    steps = [step for step in run.steps if source is not run or step > reference.step]
    watching = Alerts(run.probes, reference, **run.manifest.get("alerts", {"planned_looks": len(steps)}))
    found = []
    for step in steps:
        try:
            found += watching.look(run.read(step, samples=False))
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return watching, found


def replay_alerts(run: Run | str | os.PathLike[str]) -> list[Alert]:
    """Where alerts would have fired in a stored run; raises as `replay` and `read_run`."""
    return replay(run if isinstance(run, Run) else read_run(run))[1]


def _compared_with(run: Run) -> Run:
    """The run that holds its reference: itself, but where an earlier one was named."""
    named = run.manifest.get("options", {}).get("reference", "first")
    return run if named in ("first", "ref_model", "base") else read_run(named)
