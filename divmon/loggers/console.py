"""The terminal: a line of results after a measurement, a table at the end, a bar while it measures. Plain text."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence

from divmon.loggers import headline, say
from divmon.types import TRUNCATED_LIMIT, Change, Probe, Score, Snapshot


class console:
    """One line a measurement, past the trainer's own progress bar.

    Args:
        main: whether this is the main process; the others are quiet.
        say: called with each line.
    """

    def __init__(self, *, main: bool = True, say: Callable[[str], None] = say) -> None:
        self._say = say if main else lambda line: None

    def log(self, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        self._say(line(snapshot))
        for note in notes(snapshot):
            self._say(f"divmon: {note}")

    def close(self) -> None:
        """Nothing: the terminal stays."""


def line(snapshot: Snapshot) -> str:
    """`divmon step 100: gsm8k sbert 0.210 (-0.100 [-0.130, -0.070]), ead ...; starter ...`."""
    changes = {(change.task, change.metric): change for change in snapshot.changes}
    tasks: dict[str, list[Score]] = {}
    for score in snapshot.scores:
        tasks.setdefault(score.task, []).append(score)
    parts = []
    for task, scores in tasks.items():
        shown = headline(scores, snapshot.figures) or scores[:3]
        words = [f"{s.metric} {_number(s.mean)}{_since(changes.get((task, s.metric)))}" for s in shown]
        parts.append(f"{task} {', '.join(words)}")
    return f"divmon step {snapshot.step}: {'; '.join(parts) or 'nothing to show'}"


def closing_table(snapshot: Snapshot) -> str:
    """Each metric at the reference and now, with the paired change and its interval."""
    rows: list[tuple[str, ...]] = [("task", "metric", "reference", "now", "change", "95 % interval", "n")]
    for c in _largest(snapshot):
        rows.append((c.task, c.metric, *map(_number, (c.reference, c.now, c.change)), _interval(c), str(c.n)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = []
    for row in rows:
        cells = zip(row, widths, (str.ljust, str.ljust, *[str.rjust] * 5), strict=True)
        table.append("  ".join(align(cell, width) for cell, width, align in cells))
    title = f"divmon: paired change since the reference, at step {snapshot.step}"
    return "\n".join([title, *table, *(f"divmon: {note}" for note in notes(snapshot))])


def _largest(snapshot: Snapshot) -> list[Change]:
    """Of figures that there are at every k up to K (pass@k, majority vote), the one at K: fifty rows hide the rest."""
    sizes = {name: figure.size for name, figure in snapshot.figures.items() if figure.size}
    families = {c: (c.task, c.metric.removesuffix(str(sizes.get(c.metric, "")))) for c in snapshot.changes}
    largest: dict[tuple[str, str], int] = {}
    for c, family in families.items():
        largest[family] = max(largest.get(family, 0), sizes.get(c.metric, 0))
    return [c for c, family in families.items() if sizes.get(c.metric, 0) == largest[family]]


def notes(snapshot: Snapshot) -> list[str]:
    """What to know before the figures: a sampler that may be at fault, and tasks that must not be compared."""
    found = []
    if snapshot.provenance.get("suspicion"):
        found.append(f"look at the sampler before the figures: {snapshot.provenance['suspicion']}")
    for score in snapshot.scores:
        if score.metric == "truncated" and score.mean > TRUNCATED_LIMIT:
            limit = snapshot.provenance.get("decoding", {}).get(score.task, {}).get("max_new_tokens", "its limit")
            reasoning = any(s.task == score.task and not s.answered for s in snapshot.samples)
            option = "max_reasoning_tokens" if reasoning else "max_new_tokens"
            found.append(
                f"{score.task} is NOT COMPARABLE: {100 * score.mean:.0f} % of its completions were cut off before their"
                f" answer at {limit} tokens; raise {option}"
            )
    return found


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar that is gone when done; gives the function that moves it on by so many."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, leave=False, disable=not shown, dynamic_ncols=True, file=sys.stderr) as bar:

        def done(count: int) -> None:
            bar.update(count)

        yield done


def _since(change: Change | None) -> str:
    return "" if change is None else f" ({_number(change.change, '+')} {_interval(change)})"


def _interval(change: Change) -> str:
    return f"[{_number(change.low)}, {_number(change.high)}]"


def _number(value: float, sign: str = "") -> str:
    """Three places where they tell something, three digits elsewhere."""
    if math.isnan(value):
        return "-"
    places = ".3f" if value == 0 or 0.001 <= abs(value) < 1000 else ".3g"
    return f"{value:{sign}{places}}"
