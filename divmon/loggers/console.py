"""The terminal: a line per measurement, a short table at the end, a bar while it measures. Plain text."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from divmon.loggers import by_task, headline, say
from divmon.loggers.terminal import Table, is_watched, red
from divmon.types import TERMS, TRUNCATED_LIMIT, Change, Probe, Snapshot

CLOSING = 3
"""Metrics of a task in the closing table at most: the first of the headline, then quality, then the others."""
ROWS = 5
"""Of the closing table at most, the decomposition among them."""


class console:
    """One line per measurement, past the trainer's own progress bar."""

    def __init__(self, *, main: bool = True, say: Callable[[str], None] = say) -> None:
        self._say = say if main else lambda line: None

    def log(self, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        self._say(line(snapshot))
        for note in notes(snapshot):
            self._say(f"divmon: {note}")

    def close(self) -> None:
        """Nothing: the terminal stays."""


def line(snapshot: Snapshot) -> str:
    """`divmon: step 100: gsm8k sbert 0.210 (-0.100 [-0.130, -0.070]), ead ...; starter ...`."""
    changes = {(change.task, change.metric): change for change in snapshot.changes}
    parts = []
    for task, scores in by_task(snapshot.scores).items():
        shown = headline(scores, snapshot.figures) or scores[:3]
        words = [f"{s.metric} {number(s.mean)}{_since(changes.get((task, s.metric)))}" for s in shown]
        parts.append(f"{task} {', '.join(words)}")
    return f"divmon: step {snapshot.step}: {'; '.join(parts) or 'nothing to show'}"


def closing_lines(store: Any, problems: Sequence[str]) -> str:
    """What a training ends with: what went wrong first, in red; then the table, or why there is none."""
    steps = store.steps()
    said = [red(f"divmon: {line}") for line in problems]
    last = _last_readable(store, steps)
    if last is not None and (len(steps) > 1 or last.changes):  # the reference may be of another run
        said.append(closing_table(last))
    elif steps:
        said.append(f"divmon: one snapshot, at step {steps[0]}: nothing can be said about change yet")
    else:
        said.append("divmon: no snapshot was stored: nothing can be said about diversity")
    there = f"{len(steps)} snapshot{'' if len(steps) == 1 else 's'} in {store.path}"
    more = f"; everything else: divmon report {store.path}" if steps else ""
    return "\n".join([*said, f"divmon: {there}{more}"])


def _last_readable(store: Any, steps: Sequence[int]) -> Snapshot | None:
    """The last snapshot that is not damaged; what is, is among the problems."""
    for step in reversed(steps):
        with contextlib.suppress(ValueError):
            snapshot: Snapshot = store.read(step)
            return snapshot
    return None


def closing_table(snapshot: Snapshot) -> str:
    """The paired change since the reference of the most telling metrics, five rows at most: those of the task that lost
    most first, and what its change consists of."""
    rows = _closing_rows(snapshot)
    said = [f"divmon: {note}" for note in notes(snapshot)]
    if not rows:
        return "\n".join([f"divmon: at step {snapshot.step} no change since the reference can be computed", *said])
    made_of = _decomposition(snapshot, rows[0])
    rows = rows[: ROWS - bool(made_of)]
    head = ("task", "metric", "reference", "now", "change", "95 % interval", "n")
    cells = [
        (c.task, c.metric, *map(number, (c.reference, c.now)), number(c.change, "+"), _interval(c), c.n) for c in rows
    ]
    title = f"divmon: paired change since the reference, at step {snapshot.step}"
    return str(Table(head, cells, left=(0, 1), title=title, after=[*made_of, *said]))


def _closing_rows(snapshot: Snapshot) -> list[Change]:
    """Changes that are defined: the first metric of every task, then the second of each; greatest losses first."""
    ranked = []
    for changes in by_task(c for c in snapshot.changes if not math.isnan(c.change)).values():
        first, *others = headline(changes, snapshot.figures) or changes[:1]
        others.sort(key=lambda c: not snapshot.figures[c.metric].graded)  # how good it is, beside how diverse
        ranked.append([first, *others][:CLOSING])
    ranked.sort(key=lambda own: own[0].change / own[0].reference if own[0].reference else 0.0)
    there = [own[place] for place in range(CLOSING) for own in ranked if place < len(own)][:ROWS]
    order = [own[0].task for own in ranked]
    return sorted(there, key=lambda c: order.index(c.task))


def _decomposition(snapshot: Snapshot, of: Change) -> list[str]:
    """One line: what the change of a pairwise metric consists of; none where it was not decomposed."""
    parts = snapshot.decomposition.get(of.task, {}).get(of.metric, {})
    terms = [(name, value) for name in TERMS if (value := parts.get(name)) is not None and not math.isnan(value)]
    if not terms or parts.get("labels", {}).get("correct") == "no such pairs":
        return []
    words = {"quality_control": "quality control", "narrowing_correct": "among correct answers"}
    said = [f"{number(value, '+')} {words[name]}" for name, value in terms if name in words]
    rest = sum(value for name, value in terms if name not in words)
    return [f"  {of.task} {of.metric} {number(parts['change'], '+')} = {', '.join(said)}, {number(rest, '+')} the rest"]


def notes(snapshot: Snapshot) -> list[str]:
    """What to know before the figures: a sampler that may be at fault, and tasks that must not be compared."""
    found = []
    if snapshot.provenance.get("suspicion"):
        found.append(f"check the sampler before the figures: {snapshot.provenance['suspicion']}")
    shares = {(score.task, score.metric): score.mean for score in snapshot.scores}
    for (task, metric), share in shares.items():
        if metric == "no_answer" and share > TRUNCATED_LIMIT:
            limit = snapshot.provenance.get("decoding", {}).get(task, {}).get("max_new_tokens")
            reasoning = any(s.task == task and not s.answered for s in snapshot.samples)
            at_limit, repeated = (shares.get((task, name), math.nan) for name in ("clipped_ratio", "repetition"))
            why = unanswered(share, at_limit, limit, reasoning, repeated)
            found.append(f"{task} is NOT COMPARABLE: {why}")
    return found


def unanswered(
    share: float, at_limit: float, limit: int | None, reasoning: bool | None = None, repeated: float = math.nan
) -> str:
    """Why so many completions have no answer. To raise a limit is advised only where one was reached, and with the
    warning that a loop has no end where the text repeats itself enough to explain half of them.

    Args:
        share: of completions without an answer.
        at_limit: share of completions that ended at the token limit; NaN where it was not recorded.
        limit: in tokens.
        reasoning: whether they ended inside their reasoning; None where that is not known.
        repeated: share of the text that repeats itself; NaN where it was not measured.
    """
    if at_limit == 0:
        return (
            f"{100 * share:.0f} % of its completions ended by themselves inside their reasoning, without an answer;"
            " read how they end"
        )
    at = "the token limit" if limit is None else f"{limit:,} tokens"
    raised = "max_reasoning_tokens" if reasoning else "max_new_tokens"
    if reasoning is None:
        raised = "max_new_tokens (max_reasoning_tokens where the model reasons)"
    why = f"{100 * share:.0f} % of its completions are truncated before their answer, at {at}"
    if repeated >= share / 2:
        return f"{why}, and {100 * repeated:.0f} % of all text repeats itself: read them before you raise {raised}"
    return f"{why}; raise {raised}"


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar that is gone when done; gives the function that advances it. None where the output goes to a file."""
    from tqdm.auto import tqdm

    disable = not (shown and is_watched(sys.stderr))
    with tqdm(total=total, desc=title, leave=False, disable=disable, dynamic_ncols=True, file=sys.stderr) as bar:
        yield bar.update


def number(value: float, sign: str = "") -> str:
    """Three places; whole numbers from 1,000 on; what rounds to nothing is 0.000, without a sign."""
    if math.isnan(value):
        return "-"
    if abs(value) < 0.0005:
        return "0.000"
    return f"{value:{sign}{',.0f' if abs(value) >= 1000 else '.3f'}}"


def _since(change: Change | None) -> str:
    return "" if change is None else f" ({number(change.change, '+')} {_interval(change)})".replace(" )", ")")


def _interval(change: Change) -> str:
    if math.isnan(change.low) or math.isnan(change.high):
        return ""
    return f"[{number(change.low)}, {number(change.high)}]"
