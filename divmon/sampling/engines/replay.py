"""Samples generated before, given again: from a run directory at its steps, or from a JSONL file of completions.

So that other metrics or verifiers can score them, with nothing sampled anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from divmon.prompts.rows.completions import read_completions
from divmon.sampling import Drawing, Key, Request
from divmon.storage.manifest import read_manifest, read_probes
from divmon.storage.reader import find_folder, list_steps, read_snapshot
from divmon.storage.snapshot_files import read_samples
from divmon.types import RenderedPrompt, Sample


class Replay:
    """Gives stored samples.

    Args:
        source: a run directory, the output_dir that holds one, or a file of completions, as `divmon score`
            reads it. A file's samples are the same at every step, with their reasoning split off; how they ended is not
            known, and null is a completion without an answer.

    Raises:
        FileNotFoundError: there is neither; the message says what was looked for.
        ValueError: a line of a file is no row, or a newer divmon wrote the run.
    """

    name = "replay"

    def __init__(self, source: str | os.PathLike[str]) -> None:
        path = Path(source)
        self._file = _of_file(path) if path.is_file() else None
        self._folder = path if path.is_file() else find_folder(path)
        self.reason = f"stored samples of {self._folder}"
        if self._file is None:
            read_manifest(self._folder)

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """The first samples of each prompt at that step, whatever the seed; nothing is drawn, so no tokens count.

        A prompt is missing where it is not stored, was another or decoded otherwise, has fewer samples than asked for,
        or texts that the store shortened.

        Raises:
            ValueError: the run has no such step, or its files are damaged.
        """
        stored, drawing = self._file or _of_run(self._folder, step), Drawing()
        for request in requests:
            reason = stored.lacks(request)
            if reason:
                drawing.missing[request.key] = reason
                continue
            samples = stored.samples[stored.key(request)][: request.num_samples]
            drawing.samples += [replace(sample, task=request.prompt.task) for sample in samples]
            progress(len(samples))
        return drawing


@dataclass
class _Stored:
    """What is known of the samples of one moment."""

    samples: dict[Key, list[Sample]] = field(default_factory=dict)
    """In order. The task is "" where a file's row names none, and then any."""
    cut: dict[Key, set[int]] = field(default_factory=dict)
    """Numbers of the samples whose texts are not whole."""
    asked: dict[Key, Any] = field(default_factory=dict)
    """The content of the prompts."""
    missing: dict[Key, str] = field(default_factory=dict)
    decodings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By task; none where it is not known."""

    def key(self, request: Request) -> Key:
        return request.key if request.key in self.samples else ("", request.prompt.id)

    def lacks(self, request: Request) -> str:
        """Why a request cannot be met; nothing where it can."""
        key = self.key(request)
        if request.key in self.missing:
            return f"missing already when it was drawn: {self.missing[request.key]}"
        if key not in self.samples:
            return "no samples of it are stored"
        if key in self.asked and not _is_of(self.asked[key], request.prompt):
            return "its stored samples answer another prompt of the same id"
        then, now = self.decodings.get(request.prompt.task, {}), asdict(request.decoding)
        other = [f"{name} {then[name]!r}, not {now[name]!r}" for name in then if _plain(now.get(name)) != then[name]]
        if other:
            return f"its stored samples were drawn with {', '.join(other)}"
        samples = self.samples[key][: request.num_samples]
        if len(samples) < request.num_samples:
            return f"{len(samples)} samples of it are stored, {request.num_samples} were asked for"
        cut = sum(sample.index in self.cut.get(key, ()) for sample in samples)
        return f"{cut} of its {len(samples)} stored texts were shortened or left out to save space" if cut else ""


def _of_run(folder: Path, step: int) -> _Stored:
    if step not in list_steps(folder):
        raise ValueError(f"{folder} has no samples of step {step}; there are those of {list_steps(folder)}")
    snapshot, stored = read_snapshot(folder, step), _Stored()
    stored.missing = snapshot.missing
    stored.decodings = snapshot.provenance.get("decoding", {})
    stored.asked = {(b.name, p.id): p.content for b in read_probes(read_manifest(folder)) for p in b.prompts}
    for sample, row in zip(snapshot.samples, read_samples(folder, step), strict=True):
        key = (sample.task, sample.prompt_id)
        stored.samples.setdefault(key, []).append(sample)
        if row["cut"]:
            stored.cut.setdefault(key, set()).add(sample.index)
    return stored


def _of_file(path: Path) -> _Stored:
    found = read_completions(path)
    if found.problems:
        line, reason = found.problems[0]
        raise ValueError(f"{path}:{line}: {reason}; {len(found.problems)} lines are no rows of completions")
    stored = _Stored()
    for row in found.rows:
        key = (row.task or "", str(row.id))
        stored.asked[key] = row.prompt
        stored.samples[key] = [
            Sample(key[0], key[1], index, text or "", "unknown", None, answered=text is not None)
            for index, text in enumerate(row.outputs)
        ]
    return stored


def _is_of(content: Any, prompt: RenderedPrompt) -> bool:
    """Whether a prompt may have been rendered from a content: templates trim it and put things around."""
    if isinstance(content, str):
        return content.strip() in prompt.text
    if all(isinstance(part, int) for part in content):
        return tuple(content) == prompt.input_ids
    last = content[-1].get("content")
    return not isinstance(last, str) or last.strip() in prompt.text


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
