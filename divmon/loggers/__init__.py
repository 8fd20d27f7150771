"""Where the scores go while training: one file a place, one class of the file's name in each.

A logger takes whole snapshots and picks from them by `scalars` and `texts`, so that every place shows the same figures
under the same names. By default some six a task, under a prefix that TensorBoard lists before `eval/` and `train/`:

    Diversity/<task>/<metric>            the mean over prompts of each headline metric
    Diversity/<task>/<metric>_change     paired change of the first of them since the reference, _change_low and
                                         _change_high its interval (of the task rollouts since the first window,
                                         unpaired where prompts differ)
    divmon/<task>/<metric>...            all others, only with the option tensorboard="all"
    divmon/<task>/samples                a few prompts with their completions, as a markdown table
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from divmon.loggers.terminal import clean, encodable, is_watched, said, share_a_file, write
from divmon.types import Change, Figure, Probe, Prompt, Sample, Score, Snapshot

logger = logging.getLogger("divmon")


def _clean(record: logging.LogRecord) -> bool:
    """Warnings quote what others wrote (a server, a verifier) and mostly end in a terminal."""
    record.msg, record.args = clean(record.getMessage()), ()
    return True


logger.addFilter(_clean)

_Named = TypeVar("_Named", Score, Change)


class Logger(Protocol):
    """A place the scores go. Only the main process has one. It may raise: whoever calls keeps training alive."""

    def log(self, snapshot: Snapshot, probes: Sequence[Probe]) -> None:
        """Show one measurement."""

    def close(self) -> None:
        """Training is over; what was shown stays."""


Calls = Callable[[Logger, Callable[[], Any]], Any]
"""Calls a method of a place: with a time limit, say."""


def show_all(
    loggers: Sequence[Logger],
    snapshot: Snapshot,
    probes: Sequence[Probe],
    *,
    strict: bool = False,
    calls: Calls = lambda out, call: call(),
) -> dict[str, str]:
    """Logs to every place, whatever becomes of one.

    Returns:
        The places that failed, each with its reason.
    """
    failed = {}
    for out in loggers:
        try:
            calls(out, functools.partial(out.log, snapshot, probes))
        except Exception as error:
            if strict:
                raise
            failed[type(out).__name__] = f"{type(error).__name__}: {error}"
            logger.warning("divmon: could not log step %d to %s: %s", snapshot.step, type(out).__name__, error)
    return failed


def close_all(loggers: Sequence[Logger], calls: Calls = lambda out, call: call()) -> None:
    """Closes every place, whatever becomes of one."""
    for out in loggers:
        try:
            calls(out, out.close)
        except Exception as error:
            logger.warning("divmon: could not close %s: %s", type(out).__name__, error)


def say(line: str) -> None:
    """Show a person one line, past any progress bar that is on the screen; what a terminal would obey is taken out.

    What the output cannot spell is escaped. Where there is no output, or it is closed, the line goes to the log.
    """
    from tqdm.auto import tqdm

    out = sys.stdout
    if out is None:  # pythonw, or a daemon
        logger.info("%s", said(line))
        return
    try:
        if is_watched(sys.stderr):
            tqdm.write(encodable(said(line), out), file=out)
            out.flush()
        else:  # in a file tqdm would draw the trainer's bar anew for each line
            beside_a_bar = bool(getattr(tqdm, "_instances", ())) and share_a_file(out, sys.stderr)
            write("\n" * beside_a_bar + said(line), out)
    except Exception:  # closed, or what a program put in its place
        logger.info("%s", said(line))


_noticed: set[tuple[str, str]] = set()


def say_once(line: str, about: str) -> None:
    """`say`, unless this process said the same about the same (a model): a program may train several times, and measure
    beside it."""
    if (line, about) not in _noticed:
        _noticed.add((line, about))
        say(line)


FIRST, REST = "Diversity", "divmon"
"""Prefixes of the headline and of all else. TensorBoard sorts by case: capitals come before `eval` and `train`."""


def scalars(snapshot: Snapshot, everything: bool = False) -> dict[str, float]:
    """Figures of a snapshot by their names, as Python floats; what is undefined (NaN) is left out."""
    figures = snapshot.figures
    scores, changes = shown(snapshot.scores, figures), shown(snapshot.changes, figures)
    first = {(s.task, s.metric) for s in _leading(scores, figures)}
    first |= {(c.task, c.metric) for c in _leading(changes, figures)}
    leading = {(c.task, c.metric) for c in leading_changes(snapshot)}
    named: dict[str, float] = {}
    for score in scores:
        if (own := (score.task, score.metric) in first) or everything:
            named[name_of(score, own)] = score.mean
    for change in changes:
        if (key := (change.task, change.metric)) in leading or everything:
            name = f"{name_of(change, key in first)}_change"
            named |= {name: change.change, f"{name}_low": change.low, f"{name}_high": change.high}
    return {name: float(value) for name, value in named.items() if not math.isnan(value)}


def name_of(figure: Score | Change, first: bool = True) -> str:
    """What a tracker calls a level; never a folder of another name, for which MLflow's file store has no room."""
    return f"{FIRST if first else REST}/{figure.task}/{figure.metric.replace('/', '_')}"


def leading_changes(snapshot: Snapshot) -> list[Change]:
    """Of each task the change that is shown first: of the first metric of its headline."""
    first: dict[str, Change] = {}
    for change in _leading(shown(snapshot.changes, snapshot.figures), snapshot.figures):
        first.setdefault(change.task, change)
    return list(first.values())


def leading_scores(snapshot: Snapshot) -> dict[str, list[Score]]:
    """Of each task the levels that are shown first."""
    return by_task(_leading(shown(snapshot.scores, snapshot.figures), snapshot.figures))


def by_task(scores: Iterable[_Named]) -> dict[str, list[_Named]]:
    """Those of each task, in their order."""
    tasks: dict[str, list[_Named]] = {}
    for score in scores:
        tasks.setdefault(score.task, []).append(score)
    return tasks


def _leading(scores: Sequence[_Named], figures: Mapping[str, Figure]) -> list[_Named]:
    """The headline of each task; of one without any, its first figures."""
    return [s for own in by_task(scores).values() for s in headline(own, figures) or own[:FEW]]


FEW = 3
"""Figures shown first of a task that has none in the headline."""


def shown(scores: Sequence[_Named], figures: Mapping[str, Figure]) -> list[_Named]:
    """Those to look at: of figures at every k up to K (pass@k, majority vote) the powers of two."""
    return [s for s in scores if s.metric not in figures or figures[s.metric].size.bit_count() <= 1]


def headline(scores: Sequence[_Named], figures: Mapping[str, Figure]) -> list[_Named]:
    """Those shown first, in the order in which their figures ask for it."""
    places = [(figures[s.metric].headline, s) for s in scores if s.metric in figures]
    first = [(place, s) for place, s in places if place is not None]
    return [s for _, s in sorted(first, key=lambda pair: pair[0])]


def texts(snapshot: Snapshot, probes: Sequence[Probe], few: int = 3, samples: int = 16) -> dict[str, str]:
    """For each task a markdown table of its first prompts with their completions: the same prompts at every step."""
    drawn: dict[tuple[str, str], list[Sample]] = {}
    for sample in snapshot.samples:
        drawn.setdefault((sample.task, sample.prompt_id), []).append(sample)
    alerts = snapshot.provenance.get("alerts") or []
    tables = {"divmon/alerts": "\n\n".join(_escape(alert["text"], 2000) for alert in alerts)} if alerts else {}
    for probe in probes:
        parts = []
        for prompt in probe.prompts[:few]:
            rows = [_row(sample) for sample in drawn.get((probe.name, prompt.id), [])[:samples]]
            reason = snapshot.missing.get((probe.name, prompt.id), "")
            head = f"**{_escape(prompt.id, 80)}** {_escape(_asked(prompt), 600)} {_escape(reason, 200)}".strip()
            parts.append(
                "\n".join([head, "", "| # | correctness | end | tokens | completion |", "|--|--|--|--|--|", *rows])
            )
        tables[f"divmon/{probe.name}/samples"] = "\n\n".join(parts)
    return tables


@contextlib.contextmanager
def kept_step(run: Any) -> Iterator[None]:
    """Give a trackio run its count of calls back, which it uses as the step: the host's rows keep theirs."""
    before = getattr(run, "_next_step", None)
    yield
    if before is not None:
        run._next_step = before


def _row(sample: Sample) -> str:
    words = {True: "correct", False: "wrong", None: "ungradable"}
    graded = "" if sample.verdict is None else words[sample.correct]
    ended = "truncated" if sample.finish == "length" else "ended"
    text = sample.text if sample.answered else f"({ended} inside its reasoning, no answer)"
    return f"| {sample.index} | {graded} | {sample.finish} | {sample.n_tokens} | {_escape(text, 300)} |"


def _asked(prompt: Prompt) -> str:
    """The prompt in words: its text, or the last turn of its conversation."""
    if isinstance(prompt.content, str):
        return prompt.content
    last = prompt.content[-1] if prompt.content else ""
    return str(last.get("content", "")) if isinstance(last, dict) else f"({len(prompt.content)} token ids)"


def _escape(text: str, width: int) -> str:
    """One line of `width` characters at most that markdown and HTML show as it is."""
    text = text if len(text) <= width else text[: width - 1] + "…"
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text).encode("utf-8", "replace").decode()
    text = re.sub(r"[&<>|*_`\[\]\\#!~$^{}]", lambda match: f"&#{ord(match[0])};", text)
    return re.sub(r"\n", "<br>", text)
