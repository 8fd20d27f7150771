"""What went wrong in a run, as data: measurements that failed, figures and prompts left out, files that are damaged.

The one source of what `read_run`, the report, `divmon compare` and the last lines of a training say of a run's health.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENT, FIGURE, PROMPT, SAMPLES, OTHER = "measurement", "figure", "prompt", "samples", "other"
MANIFEST = "manifest"
"""Kinds: there is no snapshot of a step; a snapshot lacks a metric or its decomposition; it lacks prompts; its
completions cannot be read; something beside the measurements failed; what the run is, is damaged."""

NAMES, LONG = 3, 300
"""Names listed and characters of a reason shown at most."""
NO_REASON = "no snapshot and no recorded reason: the process may have been killed while it measured"


@dataclass(frozen=True)
class Problem:
    """Everything of one kind that has one reason; reasons that differ in their numbers alone are one."""

    kind: str
    what: tuple[str, ...]
    """What is missing: "gsm8k/sbert", "gsm8k/sbert/decomposition", "gsm8k/p7"; empty of a measurement."""
    reason: str
    steps: tuple[int, ...]
    count: int
    """How often, over all steps and names."""

    def __str__(self) -> str:
        reason = self.reason if len(self.reason) <= LONG else f"{self.reason[: LONG - 1]}…"
        if self.kind == MANIFEST:
            return reason
        place = f"at {steps_in_words(self.steps)}"
        more = f" and {len(self.what) - NAMES} more" if len(self.what) > NAMES else ""
        named = f"{', '.join(self.what[:NAMES])}{more}"
        said = {
            MEASUREMENT: f"{count(self.count, 'measurement')} failed {place}",
            FIGURE: f"{count(self.count, 'figure')} not computed {place} ({named})",
            PROMPT: f"{count(self.count, 'prompt')} without completions {place} ({named})",
            SAMPLES: f"completions cannot be read {place}",
        }
        return f"{said.get(self.kind, f'{named} failed {place}')}: {reason}"


@dataclass(frozen=True)
class Problems:
    """The problems of a run; true where there is one."""

    measurements: int
    """Snapshots that there are or should be: measured, failed, or planned up to where the run is."""
    failed: tuple[int, ...]
    """Steps without a snapshot that can be read."""
    incomplete: tuple[int, ...]
    """Steps whose snapshot lacks something."""
    found: tuple[Problem, ...]
    """Failed measurements first."""

    def __bool__(self) -> bool:
        return bool(self.found)

    @property
    def summary(self) -> str:
        """One line: how many of how many, and at which steps; empty of a healthy run."""
        said = []
        whole = count(self.measurements, "measurement")
        if self.failed:
            said.append(f"{len(self.failed)} of {whole} failed ({steps_in_words(self.failed)})")
        if self.incomplete:
            are = "is" if len(self.incomplete) == 1 else "are"
            of = "" if self.failed else f" of {whole}"
            said.append(f"{len(self.incomplete)}{of} {are} incomplete ({steps_in_words(self.incomplete)})")
        others = [problem for problem in self.found if problem.kind == OTHER]
        if others and not said:
            said.append(f"{', '.join(dict.fromkeys(name for o in others for name in o.what))} failed")
        if any(problem.kind == MANIFEST for problem in self.found):
            said.append("the manifest is damaged")
        return "; ".join(said)

    def lines(self, most: int | None = None) -> list[str]:
        """The summary and a line for each reason, for a person; none of a healthy run."""
        if not self:
            return []
        shown = self.found[:most]
        rest = len(self.found) - len(shown)
        more = [f"and {count(rest, 'more reason')}: run.problems.found lists all"] if rest else []
        return [self.summary, *map(str, shown), *more]

    def reason_of(self, name: str, step: int) -> str:
        """Why a figure ("gsm8k/sbert", "gsm8k/sbert/decomposition") is missing at a step; "" if unknown."""
        return next((p.reason for p in self.found if p.kind == FIGURE and name in p.what and step in p.steps), "")

    def frame(self) -> pd.DataFrame:
        """One row per problem: kind, what, reason, steps, count."""
        import pandas as pd

        return pd.DataFrame([vars(problem) for problem in self.found], columns=list(Problem.__dataclass_fields__))


def find_problems(
    manifest: Mapping[str, Any],
    markers: Mapping[int, Mapping[str, Any]],
    damaged: Mapping[int, str],
    damaged_samples: Mapping[int, str],
    damaged_manifest: Sequence[str] = (),
) -> Problems:
    """The problems of a run.

    Args:
        manifest: `failures` ({step, reason, what}), `planned` (steps), `ended` (the last step, once training is over)
            `passed_over` (steps that the budget did) and the option `max_overhead` are read; each may be missing.
        markers: step -> what the snapshot's file holds.
        damaged, damaged_samples: step -> why its scores, or its completions, cannot be read.
        damaged_manifest: what is wrong with the manifest, a line each.
    """
    failures = [f for f in manifest.get("failures") or () if not (_measured(f) and f["step"] in markers)]
    failed = dict(damaged)
    others = []
    for failure in failures:
        if failure["step"] in markers or not _measured(failure):
            others.append(
                (failure.get("what") or "something beside the measurement", failure["step"], failure["reason"])
            )
        else:
            failed[failure["step"]] = damaged.get(failure["step"], failure["reason"])  # of several tries the last
    for step in _planned(manifest, [*markers, *failed]):
        if step not in markers:
            failed.setdefault(step, NO_REASON)
    found = [
        *_grouped(MEASUREMENT, [("", step, why) for step, why in sorted(failed.items())]),
        *_grouped(FIGURE, _figures(markers)),
        *_grouped(PROMPT, _prompts(markers)),
        *_grouped(SAMPLES, [("", step, why) for step, why in damaged_samples.items()]),
        *_grouped(OTHER, others),
        *(Problem(MANIFEST, ("manifest.json",), fault, (), 1) for fault in damaged_manifest),
    ]
    incomplete = {step for problem in found if problem.kind in (FIGURE, PROMPT, SAMPLES) for step in problem.steps}
    return Problems(len(markers) + len(failed), tuple(sorted(failed)), tuple(sorted(incomplete)), tuple(found))


def count(number: int, noun: str) -> str:
    """`1 measurement`, `2 measurements`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def steps_in_words(steps: Sequence[int], most: int = 6) -> str:
    """`step 10`, `steps 10 and 20`, `steps 10, 20, ... 900`."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) > most:
        return f"steps {', '.join(map(str, steps[: most - 1]))}, ... {steps[-1]}"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"


def _measured(failure: Mapping[str, Any]) -> bool:
    """Whether it was the measurement that failed; records of earlier versions do not say."""
    return failure.get("what", "the measurement") == "the measurement"


def _planned(manifest: Mapping[str, Any], known: Iterable[int]) -> list[int]:
    """Steps that should have been measured by now, without those that the budget passed over; none where it may have
    passed over some and did not record them."""
    if manifest.get("options", {}).get("max_overhead") is not None and "passed_over" not in manifest:
        return []
    passed_over = manifest.get("passed_over") or ()
    ended = manifest.get("ended")
    until = max([*known, -1 if ended is None else ended], default=-1)
    return [step for step in manifest.get("planned") or () if step <= until and step not in passed_over]


def _figures(markers: Mapping[int, Mapping[str, Any]]) -> Iterable[tuple[str, int, str]]:
    for step, marker in markers.items():
        facts = marker["provenance"]
        for name, reason in (facts.get("left_out") or {}).items():
            yield name, step, reason
        if facts.get("alerts_failed"):
            yield "alerts", step, facts["alerts_failed"]


def _prompts(markers: Mapping[int, Mapping[str, Any]]) -> Iterable[tuple[str, int, str]]:
    for step, marker in markers.items():
        for task, prompt_id, reason in marker["missing"]:
            yield f"{task}/{prompt_id}", step, reason


def _grouped(kind: str, rows: Iterable[tuple[str, int, str]]) -> list[Problem]:
    """(what, step, reason) -> a problem per reason, in the order of their first step."""
    groups: dict[str, list[tuple[str, int, str]]] = {}
    for row in rows:
        groups.setdefault(re.sub(r"\d+", "#", row[2]), []).append(row)
    found = []
    for group in groups.values():
        names = tuple(dict.fromkeys(name for name, _, _ in group if name))
        found.append(Problem(kind, names, group[0][2], tuple(sorted({step for _, step, _ in group})), len(group)))
    return sorted(found, key=lambda problem: problem.steps)
