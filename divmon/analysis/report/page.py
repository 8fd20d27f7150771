"""Everything of a comparison as one HTML page that needs no network: figures, charts, samples, plotting library.

The library is Vega-Lite, bundled by vl-convert. What came out of a model is data: it is escaped in tables, lies in JSON
without "<" or packed, is put on the page as text alone, and a content policy lets no script run but those here.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import html
import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from divmon import __version__
from divmon.analysis.comparison.homogeneity import sentences
from divmon.analysis.report import chart_rows, charts, facts, samples
from divmon.analysis.report.chosen import chosen
from divmon.analysis.report.headline import RULES, Headline, headline, most
from divmon.analysis.report.wording import TERM_WORDS, what
from divmon.storage.cache import cache_folder
from divmon.types import plain, strict_json

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison
    from divmon.analysis.comparison.members import Member

ASSETS = files("divmon.analysis.report") / "assets"
SHOWN = 240
"""Characters of a text at the top of the page."""
EXAMPLES = 3
"""Groups that are shown there, by one text each."""


def page(comparison: Comparison, groups: str = "auto") -> str:
    """The page. Raises ModuleNotFoundError: the extra `report` is not installed; RuntimeError: completions cannot be
    grouped as asked."""
    library = _library()
    members = [member for runs in comparison.groups.values() for member in runs]
    alerts, untold = facts.alerts(members)
    head = headline(comparison, alerts)
    answers = samples.collect(members, comparison.tasks, steps := samples.chosen(members))
    how = samples.group(answers.values(), members[0].run.manifest.get("encoders", {}).get("encoder"), groups)
    packed, limit = samples.packed(answers)
    places = {key: place for place, key in enumerate(answers)}
    reading = [(head.task, id) for id in most(comparison, head) if (head.task, id) in answers]
    program = f"(() => {{\n'use strict';\n{_asset('page.js')}\n{_asset('samples.js')}\n}})();"
    scripts = (f'<script type="text/plain" id="s{places[key]}">{text}</script>' for key, text in packed.items())
    return _put(
        _asset("page.html"),
        policy=_policy(library, program),
        title=html.escape(f"{' against '.join(comparison.groups)}: output diversity"),
        about=html.escape(_about(comparison)),
        style=_asset("style.css"),
        problems=facts.problems(members),
        answers=_cards(head),
        covers=html.escape(comparison.covers if len(comparison.groups) > 1 else _ONE_RUN),
        rules=html.escape(RULES),
        notes=_notes(comparison),
        chosen=chosen(members),
        glance=facts.glance(comparison, head.metric) if head.metric else "",
        rollouts=facts.rollouts(members),
        read=_read(comparison, head, reading, answers, places),
        groups=html.escape(how),
        cut=html.escape(_left_out(members, steps, limit)),
        warnings=facts.fired(alerts, untold),
        composition=facts.composition(comparison),
        stages=facts.stages(comparison),
        provenance=facts.provenance(comparison),
        version=__version__,
        facts=_json(_facts(comparison, head, alerts, answers, places, reading)),
        samples="\n".join(scripts),
        library=library,
        program=program,
    )


_ONE_RUN = "Intervals (95 %, each step by itself) cover prompts and sampling, not training seeds."


def _facts(
    c: Comparison,
    head: Headline,
    alerts: Mapping[str, Any],
    answers: Mapping[samples.Key, samples.Answers],
    places: Mapping[samples.Key, int],
    reading: Sequence[samples.Key],
) -> dict[str, Any]:
    drawn = chart_rows.rows(c, alerts)
    metrics = {row["metric"] for row in drawn["curve"]}
    tasks = list(dict.fromkeys(row["task"] for row in drawn["curve"]))
    return {
        "main": {"task": head.task or tasks[0], "metric": head.metric or sorted(metrics)[0]},
        "by": c.by,
        "axes": chart_rows.AXES | ({"step": "1000 alpha (0: base, 1000: tuned)"} if _sweeps(c) else {}),
        "groups": list(c.groups),
        "runs": [{"name": m.name, "group": m.group} for runs in c.groups.values() for m in runs],
        "tasks": tasks,
        "ranked": c.figures.ranked(sorted(metrics)),
        "figures": {name: what(name, c.figures) for name in sorted(metrics)},
        "rows": {name: _columns(rows) for name, rows in drawn.items()},
        "domains": chart_rows.domains(drawn["parts"]),
        "failed": {m.name: _failed(m) for runs in c.groups.values() for m in runs},
        "terms": [(words, charts.COLOURS[term]) for term, words in TERM_WORDS.items()],
        "specs": charts.specs(list(c.groups)),
        "prompts": [
            {"task": task, "id": id, "text": _short(one.prompt, 70), "place": places[task, id]}
            for (task, id), one in answers.items()
        ],
        "read": places[reading[0]] if reading else None,
    }


def _sweeps(c: Comparison) -> bool:
    return all(m.run.manifest.get("sweep") for runs in c.groups.values() for m in runs)


def _failed(member: Member) -> dict[str, str]:
    """ "task/metric" or "task/metric/decomposition" -> why it is missing, so that a chart without it says so."""
    return {name: problem.reason for problem in member.run.problems.found for name in problem.what}


def _left_out(members: Sequence[Member], steps: Mapping[str, Sequence[int]], limit: int | None) -> str:
    few = [
        f"of {m.name} those of {len(steps[m.name])} in {len(m.run.provenance)} snapshots"
        for m in members
        if len(steps[m.name]) < len(m.run.provenance)
    ]
    said = f"The page holds, evenly spaced, {'; '.join(few)}: all are in the run directory." if few else ""
    return said + (f" Completions longer than {limit:,} characters are shortened." if limit else "")


def _columns(rows: Sequence[chart_rows.Row]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _about(c: Comparison) -> str:
    parts = [f"{len(task.prompts)} prompts of {task.name}" for task in c.tasks if task.members]
    runs = c.runs.to_dict("records")
    shots = ", ".join(f"{row['run']} {row['snapshots']}" for row in runs)
    return f"Measured by divmon on {', '.join(parts)}. Snapshots: {shots}."


def _cards(head: Headline) -> str:
    cards = (
        f'<div class="card"><h3>{html.escape(question)}</h3><p class="big">{html.escape(answer)}</p>'
        f"<p>{html.escape(figures)}</p></div>"
        for question, answer, figures in head.answers
    )
    return f'<div class="cards">{"".join(cards)}</div>'


def _notes(c: Comparison) -> str:
    many = {m.name: len(m.run.provenance) for runs in c.groups.values() for m in runs}
    drawn = [
        f"Charts show {min(chart_rows.STEPS, count)} of the {count:,} snapshots of {name} ({chart_rows.BARS} where they"
        " show its decomposition), evenly spaced, and those with an alert; --csv writes the figures of all."
        for name, count in many.items()
        if count > chart_rows.BARS
    ]
    left = [f"{r.run} is left out of {r.task} ({r.metrics}): {r.reason}. {r.remedy}" for r in c.refused.itertuples()]
    members = [m for runs in c.groups.values() for m in runs]
    notes = [*left, *c.notes, *drawn, *sentences(c.homogeneity), *facts.without_approach(members)]
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def _read(
    c: Comparison,
    head: Headline,
    reading: Sequence[samples.Key],
    answers: Mapping[samples.Key, samples.Answers],
    places: Mapping[samples.Key, int],
) -> str:
    """The prompts that show it most, with each run's commonest answers at its first and last step."""
    if not reading:
        return (
            "<p>Which prompts to read cannot be told: no change of theirs is known. Stored completions are below.</p>"
        )
    against = f"{head.worst} lies furthest below {head.other}" if head.other else f"{head.worst} lost most"
    parts = [
        f'<p class="quiet">The {len(reading)} prompts of {html.escape(head.task)} on which {html.escape(against)} by'
        f" {html.escape(head.metric)}: chosen because they show it most, so not typical ones.</p>",
        '<div class="cards">',
    ]
    for key in reading:
        one = answers[key]
        last = max(step for steps in one.runs.values() for step in steps)
        parts.append(f'<div class="card"><h3>Prompt {html.escape(key[1])}</h3>')
        parts.append(f'<p class="quote">{html.escape(_short(one.prompt, 2 * SHOWN))}</p>')
        starts = {run: steps[min(steps)] for run, steps in one.runs.items()}
        alike = len(starts) > 1 and len({str(sorted(map(str, rows))) for rows in starts.values()}) == 1
        for run in list(starts)[:1] if alike else starts:
            step = min(one.runs[run])
            parts.append(_drawn(one, run, step, f"all runs, step {step}" if alike else f"{run}, step {step}"))
        parts += [_drawn(one, run, max(steps), f"{run}, step {max(steps)}") for run, steps in one.runs.items()]
        parts.append(
            f'<p><button type="button" data-open="{places[key]}" data-step="{last}">Read all its completions</button>'
        )
        parts.append("</p></div>")
    return "\n".join([*parts, "</div>"])


def _drawn(one: samples.Answers, run: str, step: int, name: str) -> str:
    """A run's answers at a step: how many groups and texts, and the commonest text of the largest groups."""
    counts, distinct = one.counts(run, step), len(set(one.first(run, step)))
    groups = f"{len(counts)} group{'s' if len(counts) > 1 else ''}"
    texts = "all identical" if distinct == 1 else f"{distinct} different texts"
    total = len(one.runs[run][step])
    shown = f"{counts.total()} completions" if total == one.equal else f"the first {one.equal} of {total} completions"
    said = f"<p><strong>{html.escape(name)}:</strong> {shown}, {groups}, {texts}</p>"
    for text, times in one.examples(run, step, EXAMPLES):
        short = html.escape(_short(text, SHOWN, lines=True)) or "(empty)"
        said += f'<pre class="quote"><span class="quiet">{times} ×</span> {short}</pre>'
    return said


def _short(text: str, most: int, lines: bool = False) -> str:
    text = text.strip() if lines else " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _policy(*scripts: str) -> str:
    """Nothing is fetched, and no script runs but these."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed for a browser. Raises ModuleNotFoundError: vl-convert is not installed."""
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the report needs vl-convert; run: pip install 'divmon[report]'") from error
    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"  # making it takes four seconds
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        bundle = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]
    # Inside a page a script ends at its first end tag, wherever that stands.
    safe = re.sub(r"<(?=/script|!--|script)", r"\\x3c", bundle, flags=re.IGNORECASE)
    with contextlib.suppress(OSError):  # a home that cannot be written costs those seconds each time
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole = kept.with_suffix(f".{os.getpid()}")
        whole.write_text(safe, encoding="utf-8")
        whole.replace(kept)
    return safe


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that ends no script, whatever its texts hold."""
    return strict_json(plain(value)).decode().replace("<", "\\u003c")


def _put(template: str, **parts: str) -> str:
    """In one pass, so that a text that looks like a place is left as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
