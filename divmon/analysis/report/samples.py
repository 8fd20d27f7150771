"""Stored samples -> what the page's browser reads: one prompt at a time, grouped, small."""

from __future__ import annotations

import base64
import gzip
import json
import statistics
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.members import Member
from divmon.analysis.report import groups
from divmon.loggers.console import progress_bar
from divmon.loggers.decomposition_chart import evenly
from divmon.storage.snapshot_files import read_samples
from divmon.types import Prompt

Key = tuple[str, str]
"""(task, prompt id)"""

ROOM = 11_000_000
"""Bytes that the samples may take of the page as text, so that with plots and figures it stays under 15 MB."""
MOST = 60_000
"""Completions on the page, of all runs: of more, whole snapshots are left out, evenly."""
SHORTEST = 250
"""Characters below which completions are not shortened, however many there are."""
LEFT_OUT = "(text left out of the record by a size limit)"
UNFINISHED = "(ended by itself inside its reasoning: no answer)"
TRUNCATED = "(truncated inside its reasoning: no answer)"


@dataclass
class Answers:
    """A prompt's completions in all runs and steps."""

    prompt: str
    gold: str | None
    texts: list[str] = field(default_factory=list)
    """Each distinct one once."""
    runs: dict[str, dict[int, list[tuple[int, bool | None, str, int | None, str]]]] = field(default_factory=dict)
    """Run -> step -> by number: text, verdict, finish, tokens, reason of the verdict."""
    group: list[int] = field(default_factory=list)
    """Of each text; 0 is the largest group over all runs and steps."""

    @property
    def equal(self) -> int:
        """Completions that there are of every run and step: as many are shown side by side, the first of each."""
        return min(len(drawn) for steps in self.runs.values() for drawn in steps.values())

    def first(self, run: str, step: int) -> list[int]:
        """Their texts."""
        return [text for text, *_ in self.runs[run][step][: self.equal]]

    def counts(self, run: str, step: int) -> Counter[int]:
        """As many completions as there are of every run and step, by group."""
        return Counter(self.group[text] for text in self.first(run, step))

    def examples(self, run: str, step: int, most: int) -> list[tuple[str, int]]:
        """Among them, the commonest text of each of the largest groups, and how often it came."""
        found: dict[int, tuple[str, int]] = {}
        for text, times in Counter(self.first(run, step)).most_common():
            found.setdefault(self.group[text], (self.texts[text], times))
        return [found[group] for group, _ in self.counts(run, step).most_common(most)]


def chosen(members: Sequence[Member]) -> dict[str, list[int]]:
    """By run the steps whose completions are shown: all, or as many as `MOST` allows, evenly spaced."""
    found = {}
    for member in members:
        facts = member.run.provenance
        drawn = statistics.median(one.get("completions") or 0 for one in facts.values())
        room = MOST / len(members) / max(drawn, 1)
        found[member.name] = evenly(sorted(facts), max(int(room), 2))
    return found


def collect(
    members: Sequence[Member], tasks: Sequence[Task], steps: Mapping[str, Sequence[int]] | None = None
) -> dict[Key, Answers]:
    """The completions of every compared prompt, in the order of tasks and prompts. Damaged files are left out, with a
    warning."""
    found, places = {}, {}
    for task in tasks:
        probes = [probe for probe in members[0].run.probes if probe.name == task.name]
        prompts = {prompt.id: prompt for probe in probes for prompt in probe.prompts}
        for id in task.prompts:
            if id in prompts:
                found[task.name, id] = Answers(_in_words(prompts[id]), prompts[id].gold)
                places[task.name, id] = dict[str, int]()
    shown = [(m, s) for m in members for s in (sorted(m.run.provenance) if steps is None else steps[m.name])]
    with progress_bar("divmon: reading completions", len(shown)) as done:
        for member, step in shown:
            done(1)
            try:
                rows = read_samples(member.run.folder, step)
            except ValueError as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
                continue
            for row in sorted(rows, key=lambda row: row["index"]):
                key = row["task"], row["prompt_id"]
                if key in found:
                    text = LEFT_OUT if row["text"] is None else row["text"]
                    if not row["answered"]:
                        text = TRUNCATED if row["finish"] == "length" else UNFINISHED
                    place = places[key].setdefault(text, len(places[key]))
                    drawn = found[key].runs.setdefault(member.name, {}).setdefault(step, [])
                    drawn.append((place, row.get("correct"), row["finish"], row["n_tokens"], row.get("reason") or ""))
    for key, answers in found.items():
        answers.texts = list(places[key])
    return {key: answers for key, answers in found.items() if answers.texts}


def group(answers: Iterable[Answers], encoder: str | None, how: str = "auto") -> str:
    """Fills in the groups, and says in words how they were made.

    Args:
        encoder: the runs' text encoder, None where they have none.
        how: "meaning", or "words" and "auto": by words, since an encoder takes longer to load than all the rest.

    Raises:
        RuntimeError: "meaning" was asked for and the encoder cannot be had.
    """
    answers = list(answers)
    distinct = list(dict.fromkeys(text for one in answers for text in one.texts))
    vectors, reason = _encoded(distinct, encoder, how)
    with progress_bar("divmon: grouping completions", len(answers)) as done:
        for one in answers:
            _grouped(one, vectors)
            done(1)
    if vectors:
        return (
            f"by meaning: the texts were encoded again with {encoder}, and groups joined while their mean cosine"
            f" distance is below {groups.MEANING}"
        )
    return (
        "by words: texts that share about half of their words and pairs of words, the rarer the weightier (tf-idf, mean"
        f" cosine distance below {groups.WORDS}); other wordings of one meaning may stand apart{reason}"
    )


def _grouped(one: Answers, vectors: Mapping[str, Any]) -> None:
    """Fills in a prompt's groups, the largest over all runs and steps first."""
    total = Counter(text for steps in one.runs.values() for drawn in steps.values() for text, *_ in drawn)
    order = [text for text, _ in total.most_common()]
    ordered = [one.texts[text] for text in order]
    label = groups.by_meaning(np.stack([vectors[t] for t in ordered])) if vectors else groups.by_words(ordered)
    sizes: Counter[int] = Counter()
    for text, number in zip(order, label, strict=True):
        sizes[number] += total[text]
    rank = {number: place for place, (number, _) in enumerate(sizes.most_common())}
    one.group = [0] * len(order)
    for text, number in zip(order, label, strict=True):
        one.group[text] = rank[number]


def _encoded(texts: Sequence[str], encoder: str | None, how: str) -> tuple[Mapping[str, Any], str]:
    """Text -> embedding, empty where they are grouped by words; and why."""
    if how != "meaning":
        return {}, "" if encoder is None else "; --groups meaning joins them"
    if encoder is None:
        raise RuntimeError("the runs name no text encoder, so completions cannot be grouped by meaning")
    from divmon.scoring.encoders import TextEncoder

    embedding_ND = TextEncoder(encoder).encode(texts).double().cpu().numpy()
    return dict(zip(texts, embedding_ND, strict=True)), ""


def packed(answers: Mapping[Key, Answers], room: int = ROOM) -> tuple[dict[Key, str], int | None]:
    """Each prompt as base64 of gzip of JSON, to be unpacked when it is looked at.

    Returns:
        Them, and the characters that longer completions were cut to so that all fit `room`; None where none was.
    """
    limit = None
    while True:
        found = {key: _packed(one, limit) for key, one in answers.items()}
        total = sum(map(len, found.values()))
        if total <= room or (limit is not None and limit <= SHORTEST):
            return found, limit
        longest = limit or max(len(text) for one in answers.values() for text in one.texts)
        limit = max(SHORTEST, int(longest * min(0.7, room / total)))


def _packed(one: Answers, limit: int | None) -> str:
    def cut(text: str) -> str:
        return text if limit is None or len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more)"

    reasons: dict[str, int] = {}
    rows = {
        run: {
            step: [[*row[:4], reasons.setdefault(row[4], len(reasons))] for row in drawn]
            for step, drawn in steps.items()
        }
        for run, steps in one.runs.items()
    }
    facts = {"prompt": one.prompt, "gold": one.gold, "texts": [cut(text) for text in one.texts], "group": one.group}
    whole = json.dumps({**facts, "reasons": list(reasons), "runs": rows}, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode()


def _in_words(prompt: Prompt) -> str:
    """What is asked, a line a turn of a conversation."""
    if isinstance(prompt.content, str):
        return prompt.content
    turns = [turn for turn in prompt.content if isinstance(turn, dict)]
    if not turns:
        return f"({len(prompt.content)} token ids)"
    return "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in turns)
