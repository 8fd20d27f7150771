"""What stands beside the charts: problems, each task at a glance, stages, data, alerts, resolved configuration."""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from divmon.analysis.comparison.members import Member
from divmon.analysis.comparison.stages import MEAN
from divmon.analysis.report.wording import interval, number, table
from divmon.loggers.decomposition_chart import evenly
from divmon.storage.reader import read_run
from divmon.types import strict_json

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison
    from divmon.scoring.alerts import Alert


def alerts(members: Sequence[Member]) -> tuple[dict[str, list[Alert]], list[str]]:
    """Where alerts would have fired in each run, and for which runs that cannot be said, with the reason."""
    from divmon.scoring.alerts import replay_alerts

    found, reasons = {}, []
    for member in members:
        if member.run.manifest.get("sweep"):
            reasons.append(f"{member.name} is a sweep between two models: its steps are no course of training")
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # damaged files are named once, where samples are read
                found[member.name] = replay_alerts(member.run)
        except (OSError, ValueError, KeyError) as error:
            reasons.append(f"{member.name}: {error}")
    return found, reasons


def problems(members: Sequence[Member]) -> str:
    """What went wrong in each run, to stand before every figure; "" where all is well."""
    found = []
    for member in members:
        summary, *reasons = member.run.problems.lines() or [""]
        if summary:
            listed = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
            found.append(f"<h2>{html.escape(member.name)}: {html.escape(summary)}</h2><ul>{listed}</ul>")
    return f'<section id="problems" class="problem" role="alert">{"".join(found)}</section>' if found else ""


def without_approach(members: Sequence[Member]) -> list[str]:
    """A line per run with tasks whose answers show no approach, since they hold neither equations nor programs."""
    lines = []
    for member in members:
        scores = member.run.scores
        of_tasks = scores[scores["metric"] == "approach"].groupby("task")["n"].max()
        judged = set(scores.loc[scores["metric"] == "judged_approaches", "task"])
        if undefined := [str(task) for task, n in of_tasks.items() if n == 0 and task not in judged]:
            lines.append(
                f"{member.name}: the approaches of answers to {', '.join(undefined)} are undefined: they hold neither"
                " equations nor Python programs. judge='MODEL@URL' has a language model tell them apart"
            )
    return lines


def glance(c: Comparison, metric: str) -> str:
    """A line a task and group."""
    head = [
        "task",
        "run",
        "steps",
        f"{metric} at the start",
        "at the end",
        "end in % of the start [95 %]",
        "accuracy",
        "n prompts",
    ]
    rows = []
    for row in c.summary[c.summary["metric"] == metric].to_dict("records") if len(c.summary) else []:
        accuracy = "ungraded"
        ends = [row["accuracy_start"], row["accuracy_end"]]
        if not all(map(math.isnan, ends)):
            accuracy = f"{' to '.join(number(100 * end, '.0f') for end in ends)} %"
        kept = f"{number(row['kept_percent'], '.0f')} % {interval(row['low'], row['high'], '.0f')}"
        kept = "one snapshot" if math.isnan(row["kept_percent"]) and row["first_step"] == row["last_step"] else kept
        first_last = dict.fromkeys((row["first_step"], row["last_step"]))
        steps = " to ".join(map(str, first_last))
        rows.append(
            [row["task"], row["group"], steps, number(row["start"]), number(row["end"]), kept, accuracy, row["n"]]
        )
    return table(head, rows, f"Every task at a glance: {metric} of each run at its start and its end", (3, 4, 5, 7))


def stages(c: Comparison) -> str:
    """The paper's table 1: percent of the base model's diversity."""
    rows = []
    for row in c.stages[c.stages["task"] == MEAN].to_dict("records") if len(c.stages) else []:
        if row["stage"] == "base":
            continue
        change = f"{number(row['change_percent'], '+.0f')} {interval(row['change_low'], row['change_high'], '+.0f')}"
        kept = f"{number(row['kept_percent'], '.0f')} {interval(row['kept_low'], row['kept_high'], '.0f')}"
        rows.append([row["metric"], row["lineage"], row["stage"], change, kept, row["tasks"], row["n"]])
    head = ["metric", "lineage", "stage", "change, points [95 %]", "kept after it, % [95 %]", "tasks", "n prompts"]
    if not rows:
        return "<p>These runs name no stages (the option <code>stage</code>, or <code>compare --chain</code>).</p>"
    return table(
        head, rows, "What each stage takes, in percent of the base model's diversity, mean over tasks", (3, 4, 5, 6)
    )


ROLLOUTS = ("reward", "frac_reward_zero_std", "accuracy", "ead", "distinct_share", "sbert")
"""Figures of the table of rollouts, those that there are."""
WINDOWS = 20
"""Of rollouts shown at most, evenly spaced."""


def rollouts(members: Sequence[Member]) -> str:
    """What each run of RL drew to train on, window by window; "" where none was watched."""
    parts = []
    for member in members:
        try:
            run = read_run(member.run.folder / "rollouts")
        except (OSError, ValueError):
            continue
        means = run.scores.pivot_table(index="step", columns="metric", values="mean")
        names = [name for name in ROLLOUTS if name in means]
        rows = [
            [step, run.provenance[step].get("groups", ""), *(number(means[name].get(step, math.nan)) for name in names)]
            for step in evenly(run.steps, WINDOWS)
        ]
        caption = f"Rollouts of {member.name}: the groups that it drew to train on, the mean of each window"
        parts.append(table(["step", "groups", *names], rows, caption, range(len(names) + 2)))
        parts.append(f'<p class="quiet">All of it: <code>divmon report {html.escape(str(run.folder))}</code></p>')
    return "\n".join(["<h3>Rollouts</h3>", *parts]) if parts else ""


def composition(c: Comparison) -> str:
    """Each run's training data."""
    rows = []
    for row in c.composition.to_dict("records"):
        size, share = f"{row['tokens']:,} {row['unit']}", f"{100 * row['token_share']:.0f} %"
        apart = "" if row["sbert"] is None else number(row["sbert"])
        kept = f"{row['rows']:,}"
        rows.append([row["run"], row["from_step"], row["source"], kept, size, share, apart, row["warning"]])
    head = ["run", "from step", "source", "rows", "size", "share of size", "sbert of its completions", "warning"]
    if not rows:
        return "<p>What these runs were trained on is not in their record.</p>"
    return table(head, rows, "What each run was trained on, beside what came of it", (1, 3, 4, 5, 6))


def fired(found: Mapping[str, Sequence[Alert]], reasons: Sequence[str]) -> str:
    """Every alert with its evidence, and for how long it stood."""
    parts = [f'<p class="note">Not tested: {html.escape(reason)}</p>' for reason in reasons]
    until = {(run, a.task, a.kind, a.since): a.step for run, own in found.items() for a in own}
    for run, own in found.items():
        for a in (alert for alert in own if alert.new):
            last = until[run, a.task, a.kind, a.since]
            stood = f"at step {a.step}" if last == a.step else f"from step {a.step} to {last}"
            title = html.escape(f"{run}, {stood}: {a.kind.replace('_', ' among ')} ({a.task or 'all tasks'})")
            lines = "".join(f"<p>{html.escape(line)}</p>" for line in a.text.splitlines())
            parts.append(f'<div class="card"><h3>{title}</h3>{lines}</div>')
        if not own:
            parts.append(f"<p>None in {html.escape(run)}.</p>")
    return "\n".join(parts)


def provenance(c: Comparison) -> str:
    """The resolved configuration of each run (contract 7)."""
    columns = {m.name: _effect(m) for group in c.groups.values() for m in group}
    names = dict.fromkeys(name for facts in columns.values() for name in facts)
    rows = [[name, *(facts.get(name, "–") for facts in columns.values())] for name in names]
    return table(["", *columns], rows, "Resolved configuration of each run")


def _effect(member: Member) -> dict[str, str]:
    run = member.run
    manifest, steps = run.manifest, sorted(run.provenance)
    last = run.provenance[steps[-1]]
    options = manifest.get("options", {})
    seconds = [sum(facts.get("seconds", {}).values()) for facts in run.provenance.values()]
    tokens = [facts.get("tokens_drawn") or 0 for facts in run.provenance.values()]
    spent = manifest.get("seconds") or {}
    share = spent["monitor"] / spent["run"] if spent.get("run") else last.get("share_of_run")
    facts: dict[str, Any] = {
        "group": member.group,
        "folder": run.folder,
        "model": manifest.get("model"),
        "tokenizer": manifest.get("tokenizer"),
        "measured at steps": ", ".join(map(str, steps)),
        "reference step": manifest.get("reference_step", steps[0]),
        "completions per prompt (K)": last.get("num_samples", options.get("num_samples")),
        "of the reference": options.get("reference_samples"),
        "prompts": ", ".join(f"{len(probe.prompts)} of {probe.name}" for probe in run.probes),
        **{f"decoding of {task}": _named(how) for task, how in last.get("decoding", {}).items()},
        "seed": last.get("seed", options.get("seed")),
        "sampler": last.get("sampler"),
        "encoders": _named(manifest.get("encoders", {})),
        "verifiers": _named(manifest.get("verifiers", {})),
        "versions": _named(manifest.get("versions", {})),
        "started": manifest.get("created"),
        "resumed from steps": ", ".join(str(entry["step"]) for entry in manifest.get("resumed", ())),
        "tokens generated": f"{sum(tokens):,}" if any(tokens) else None,
        "time measuring": f"{sum(seconds):,.0f} s" if any(seconds) else None,
        "share of the run's time": None if share is None else f"{100 * share:.0f} %",
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "", {})}


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v if isinstance(v, str) else strict_json(v).decode()}" for k, v in values.items())
