"""The run directory: the only writer, and with `reading` the only reader (contract 6).

A snapshot is two files. The samples come first; the second, its scores, is put in place by a rename and says that the
snapshot is whole. A crash leaves at most a file without its second, which the next writer removes.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from divmon import __version__
from divmon.storage import reader, recovery
from divmon.storage.best import BEST
from divmon.storage.files import now, unused, write_whole
from divmon.storage.lock import Lock
from divmon.storage.manifest import FORMAT, asked, read_figures, read_manifest
from divmon.storage.reader import read_run
from divmon.storage.redaction import redacted, without_secrets
from divmon.storage.sealing import digest, seal
from divmon.storage.snapshot_files import marker_path, samples_path
from divmon.types import Snapshot, fields, plain, strict_json

__all__ = ["Store", "read_run"]


class Store:
    """Writes the snapshots of one run, each whole or not at all, and reads them back."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_chars: int = 20_000,
        max_samples_mb: float = 500.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """`max_chars` bounds each stored text, `max_samples_mb` (10^6 bytes, compressed) all samples of the run: once
        spent, later samples are kept without their texts. `say` is called with the few lines a person should see."""
        self.path = Path(path)
        self.manifest: dict[str, Any] = {}
        self._max_chars = max_chars
        self._max_bytes = int(max_samples_mb * 1e6)
        self._say = say or logging.getLogger("divmon").warning
        self._lock: Lock | None = None
        self._bytes = 0
        self._budget_named = False

    def open(self, manifest: dict[str, Any], *, resume_step: int | None = None) -> Store:
        """Become the writer of the run: lock the directory, set earlier snapshots right, write the manifest.

        Started afresh, an earlier run found here is moved beside it, to `<name>-<when it was made>`. Resumed, the
        earlier manifest stays and snapshots after `resume_step` go to `superseded/`.

        Args:
            manifest: what the run is. `probes` holds the Probes; `reference_step`, if given, names the reference;
                the rest is free. Format, divmon version and time are added.
            resume_step: step of the checkpoint that training goes on from; None or 0 for a fresh start.

        Raises:
            RuntimeError: another process writes here.
            ValueError: a resumed run has other probes than before, or a newer divmon wrote the directory.
            OSError: the directory cannot be written.
        """
        (self.path / "snapshots").mkdir(parents=True, exist_ok=True)
        self._lock = Lock(self.path)
        if self._lock.taken_over:
            self._say(f"divmon: {self.path} was still open for a training of this process that did not end: taken over")
        try:
            if resume_step and (self.path / "manifest.json").exists():
                self._resume(manifest, resume_step)
            else:
                self._start(manifest)
            self._bytes = sum(file.stat().st_size for file in self.path.glob("snapshots/*.gz"))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Let the next writer in. Reading goes on to work."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, **facts: Any) -> None:
        """Add facts to the manifest that were not known when it was written, the price of a measurement for one."""
        self._writing()
        self.manifest = _recorded({**self.manifest, **plain(facts)})
        write_whole(self.path / "manifest.json", seal(self.manifest, indent=1))

    def append(self, name: str, fact: Any) -> None:
        """Add one more to a list of facts of the manifest: failures, prices. What a run was is never replaced."""
        self.update(**{name: [*self.manifest.get(name, []), fact]})

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot, whole or not at all.

        Raises:
            ValueError: it does not fit together or its step is already written; nothing was written.
            OSError: the disk said no; what was there before is untouched.
        """
        self._writing()
        self._check(snapshot)
        reference = self.manifest.get("reference_step", min([*self.steps(), snapshot.step]))
        full = self._bytes >= self._max_bytes and snapshot.step != reference
        rows = list(self._rows(snapshot, without_text=full))
        cut = sum(row["cut"] for row in rows)
        marker = {
            "step": snapshot.step,
            "judged": any(sample.verdict for sample in snapshot.samples),
            "scores": [fields(score) for score in snapshot.scores],
            "changes": [fields(change) for change in snapshot.changes],
            "decomposition": snapshot.decomposition,
            "missing": [[task, prompt_id, redacted(reason)] for (task, prompt_id), reason in snapshot.missing.items()],
            "provenance": without_secrets(plain(snapshot.provenance | ({"texts_cut": cut} if cut else {}))),
        }
        samples = gzip.compress(b"".join(strict_json(row) + b"\n" for row in rows), mtime=0)
        commit = seal(plain({**marker, "samples_sha256": digest(samples)}))
        try:
            write_whole(samples_path(self.path, snapshot.step), samples)
            write_whole(marker_path(self.path, snapshot.step), commit)
        except BaseException:
            if not marker_path(self.path, snapshot.step).exists():
                samples_path(self.path, snapshot.step).unlink(missing_ok=True)
            raise
        self._bytes += len(samples)
        if full and not self._budget_named:
            self._budget_named = True
            self._say(
                f"divmon: the stored samples have reached {self._max_bytes / 1e6:g} MB: from step {snapshot.step} on"
                " they are kept without their texts; scores are not affected (max_samples_mb raises the limit)"
            )

    def steps(self) -> list[int]:
        """Steps of the snapshots that were written to the end, ascending."""
        return reader.list_steps(self.path)

    def read(self, step: int) -> Snapshot:
        """The snapshot of a step; raises as `reader.read_snapshot`."""
        manifest = self.manifest or read_manifest(self.path)
        return reader.read_snapshot(self.path, step).replace(figures=read_figures(manifest))

    def problems(self) -> list[str]:
        """What went wrong so far, in lines for a person; none where all is well."""
        return read_run(self.path).problems.lines()

    def reference(self) -> Snapshot | None:
        """The snapshot all others are compared with: the lowest step, or the manifest's `reference_step`; None where
        there is none yet, of the run or of the segment that it is in.

        Raises:
            ValueError: it is damaged. `begin_segment` goes on without it.
        """
        steps = self.steps()
        manifest = self.manifest or read_manifest(self.path)
        segments = manifest.get("segments")
        if not steps or (segments and "reference_step" not in segments[-1]):
            return None
        step = manifest.get("reference_step", steps[0])
        return self.read(step) if step in steps else None

    @property
    def new_reference(self) -> str:
        """Why the next snapshot is a reference in place of an earlier one; "" where it is not."""
        segments = self.manifest.get("segments") or [{"reference_step": None}]
        return "" if "reference_step" in segments[-1] else segments[-1]["why"]

    def begin_segment(self, step: int, why: str, lost: int | None = None) -> None:
        """What is measured after this step is compared with a reference of its own, the next snapshot.

        Args:
            lost: step of a reference that cannot be read, whose files are put aside.
        """
        self._writing()
        if lost is not None:
            why = f"{why}; its files are now in {recovery.put_aside(self.path, lost)}"
            self.append("failures", {"step": lost, "reason": why, "what": "the measurement"})
        self.append("segments", {"step": step, "why": why})
        self._say(f"divmon: from step {step} on changes are compared with a new reference: {why}")

    def refer_to(self, step: int) -> None:
        """The snapshot of this step is the reference from now on; a resumed run takes no other."""
        *earlier, last = self.manifest.get("segments") or [None]
        segments = {"segments": [*earlier, {**last, "reference_step": step}]} if last else {}
        self.update(reference_step=step, **segments)

    def _start(self, manifest: dict[str, Any]) -> None:
        if self.steps():
            self._set_aside()
        self._clean()
        self.manifest = _recorded(plain({**manifest, "format": FORMAT, "divmon": __version__, "created": now()}))
        write_whole(self.path / "manifest.json", seal(self.manifest, indent=1))

    def _resume(self, manifest: dict[str, Any], step: int) -> None:
        self._clean()
        found = recovery.manifest_to_resume(self.path, plain(manifest), step)
        for line in found.said:
            self._say(line)
        if found.manifest is None:
            self._start(manifest)
            return
        self.manifest = found.manifest
        before, today = asked(self.manifest), asked(plain(manifest))
        if today != before:
            raise ValueError(
                f"cannot resume the run in {self.path}: only the same prompts can be compared, and the prompts of"
                f" {sorted(name for name in before.keys() | today.keys() if before.get(name) != today.get(name))} are"
                " not those it began with; give the same probes, or another output_dir="
            )
        later = [s for s in self.steps() if s > step]
        if later:
            aside = unused(self.path / "superseded" / now().replace(":", "-"))
            aside.mkdir(parents=True)
            for s in later:  # samples first: a crash in between leaves a snapshot that is named damaged, not a loss
                for file in (samples_path(self.path, s), marker_path(self.path, s)):
                    if file.exists():
                        file.rename(aside / file.name)
            self._say(f"divmon: resumed from step {step}; snapshots of steps {later} moved to {aside}")
        facts = {name: value for name, value in manifest.items() if name != "probes"}
        resumed = {**facts, "step": step, "created": now(), "divmon": __version__}
        self.update(resumed=[*self.manifest.get("resumed", []), resumed])

    def _set_aside(self) -> None:
        """Move an earlier run, and only what belongs to it, out of the way: the directory may hold other things."""
        try:
            created = json.loads((self.path / "manifest.json").read_bytes())["created"]
        except (OSError, ValueError, KeyError, TypeError):
            created = now(self.path.stat().st_mtime)
        here = self.path.absolute()
        aside = unused(here.with_name(f"{here.name}-{created.replace(':', '-')}"))
        aside.mkdir()
        for name in ("snapshots", "superseded", BEST, "manifest.json"):
            if (self.path / name).exists():
                (self.path / name).rename(aside / name)
        (self.path / "snapshots").mkdir()
        self._say(f"divmon: {self.path} held an earlier run; it is now {aside}")

    def _clean(self) -> None:
        """Remove what a crash left: half-written files, and samples whose snapshot was never finished."""
        whole = {samples_path(self.path, step) for step in self.steps()}
        unfinished = set(self.path.glob("snapshots/*.samples.jsonl.gz")) - whole
        for file in [*unfinished, *self.path.glob("*.tmp"), *self.path.glob("snapshots/*.tmp")]:
            file.unlink()

    def _writing(self) -> None:
        if self._lock is None or not self._lock.held:
            raise RuntimeError(f"the store of {self.path} is not open for writing; call open(manifest) first")

    def _check(self, snapshot: Snapshot) -> None:
        if marker_path(self.path, snapshot.step).exists():
            raise ValueError(f"step {snapshot.step} is already in {self.path}, which has steps {self.steps()}")
        prompts = {probe["name"]: len(probe["prompts"]) for probe in self.manifest.get("probes", ())}
        for score in snapshot.scores:
            if score.values and len(score.values) != prompts.get(score.task, len(score.values)):
                raise ValueError(
                    f"{score.task}/{score.metric} at step {snapshot.step} has {len(score.values)} values;"
                    f" the probe has {prompts[score.task]} prompts, and there must be one for each (NaN if undefined)"
                )

    def _rows(self, snapshot: Snapshot, *, without_text: bool) -> Iterable[dict[str, Any]]:
        for sample in snapshot.samples:
            row = plain(fields(sample))
            verdict = row.pop("verdict")
            for name in ("text", "reasoning"):
                row[name] = None if without_text or row[name] is None else row[name][: self._max_chars]
            row["cut"] = (row["text"], row["reasoning"]) != (sample.text, sample.reasoning)
            if verdict is not None:
                row |= verdict | {"reason": redacted(verdict["reason"])}
            yield row


def _recorded(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without secrets; prompts stay as they are, since runs are compared by them."""
    return {
        name: value if name in ("probes", "rendered_prompt") else without_secrets(value)
        for name, value in manifest.items()
    }
