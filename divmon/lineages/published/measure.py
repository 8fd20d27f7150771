"""`divmon replay --checkpoints`: measures published checkpoints and compares them with the paper's numbers.

<out>/paper/_divmon                  one run directory for the paper's models, by their position in its list
<out>/<org>--<name>/_divmon          the same for the branches of a repository, by training step
                    replay.json      the settings, and the checkpoints that failed
                    paper_overlay.csv

A checkpoint is measured completely or not at all, with a monitor of its own, since checkpoints may be prompted in
different ways. One that cannot be loaded is recorded, and the replay continues with the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from divmon.lineages.published import catalog
from divmon.lineages.published.catalog import Published
from divmon.lineages.published.hub import TOKENIZER, CannotBeHad, Hub, HubUnreachable
from divmon.lineages.watch.checkpoints import Loader, Unusable
from divmon.lineages.watch.served import ServerCommand, drawing
from divmon.loggers import say
from divmon.loggers.terminal import show
from divmon.storage.data_frames import write_csv
from divmon.storage.files import write_whole
from divmon.storage.reader import FOLDER, list_steps, read_run
from divmon.types import Probe, plain, strict_json

DONE, PARTLY = 0, 3
PROTOCOL: dict[str, Any] = {
    "probes": "paper",
    "num_prompts": catalog.MOST,
    "num_samples": 16,
    "reference_samples": 16,
    "temperature": 0.6,
    "top_p": 0.95,
    "max_new_tokens": 32768,  # with the reasoning
    "max_reasoning_tokens": 0,
    "timeout": 30 * 86400.0,
    "alerts": None,  # of one run's training
}
"""The paper's protocol: defaults below the file and the flags."""
HOW = (
    *("sampler", "max_batch_tokens", "max_memory_gb", "encoder_device", "timeout", "progress", "on_error"),
    *("tensorboard", "output_dir"),
)
"""Options that may change when a replay resumes: they do not change what is measured."""


class Wrong(Exception):
    """An option does not fit; the message says why and what to do."""


class Replay:
    """Measures checkpoints into one run directory, each once.

    Args:
        folder: the folder of this replay, created if need be.
        config: the options as a `DiversityConfig`.
        server: serves each checkpoint for sampling, instead of a model in this process.
        discard: delete the download of a checkpoint once it is measured.
    """

    def __init__(
        self,
        folder: Path,
        checkpoints: Sequence[Published],
        config: Any,
        hub: Hub,
        loader: Loader,
        *,
        server: ServerCommand | None = None,
        discard: bool = False,
    ) -> None:
        self.folder, self.checkpoints, self.config = folder, checkpoints, config
        self.hub, self.loader, self.server, self.discard = hub, loader, server, discard
        self.run_directory = folder / FOLDER
        self.failures: dict[str, str] = {}
        """Why a checkpoint was not measured, by its name in the run."""
        self._loggers: list[Any] | None = None

    def run(self) -> int:
        """Measures what is not measured yet, prints the overlay, and returns the exit code. Raises Wrong: an option
        does not fit."""
        from divmon.undisturbed import release_memory

        taken = self._measured()
        self._begin()
        steps = _steps(self.checkpoints, taken)
        left = [checkpoint for checkpoint in self.checkpoints if _key(checkpoint) not in taken]
        probes = self._probes() if left else []
        for checkpoint in left:
            step = steps[_key(checkpoint)]
            try:
                path = self.hub.folder(checkpoint.repository, checkpoint.revision)
                say(f"divmon replay: measuring {checkpoint.checkpoint} as step {step:,} ({checkpoint.name})")
                self._measure(checkpoint, path, step, probes)
            except Wrong:
                raise
            except Exception as error:
                self._fail(checkpoint, error)
            else:
                self.failures.pop(checkpoint.name, None)
                self._record()
                self._discard(path)
            finally:
                release_memory()
        return self._end()

    def _measure(self, checkpoint: Published, path: Path, step: int, probes: list[Probe]) -> None:
        """One snapshot; nothing of the model is held when it returns."""
        from divmon.loggers.places import own_loggers
        from divmon.monitor import DiversityMonitor
        from divmon.training.protocol import Asking

        if self._loggers is None:
            everything = self.config.options.tensorboard == "all"
            self._loggers = own_loggers(self.folder, self._last(), everything)
        tokenizer = self._tokenizer(checkpoint, path)
        options = self._options(checkpoint)
        monitor = DiversityMonitor(config=self.config, probes=probes, loggers=self._loggers, **options)
        try:
            asking = Asking(monitor.options, tokenizer)  # what is wrong here is the checkpoint's own
            facts = catalog.facts(checkpoint, path) | {
                "tokenizer": tokenizer.name_or_path,
                "rendered_prompt": asking.render(asking.probes[0], asking.probes[0].prompts[0]).text,
            }
            with drawing(monitor, path, self.loader, self.server, lambda: asking.renderer) as model:
                try:
                    monitor.prepare(model, tokenizer, output_dir=self.run_directory, resume_step=self._last())
                except Exception as error:
                    raise Wrong(str(error)) from error
                monitor.take(model, step, facts, at_end=True)  # expensive metrics each time: the paper has them
        finally:
            monitor.close()
            monitor.release()

    def _discard(self, path: Path) -> None:
        if not self.discard:
            return
        try:
            self.hub.discard(path)
        except Exception as error:
            say(f"divmon replay: {path} could not be deleted: {type(error).__name__}: {error}")

    def _fail(self, checkpoint: Published, error: Exception) -> None:
        known = isinstance(error, CannotBeHad | Unusable)
        reason = self.failures[checkpoint.name] = str(error) if known else f"{type(error).__name__}: {error}"
        self._record()
        if not isinstance(error, HubUnreachable):  # said once, in the end
            say(f"divmon replay: {checkpoint.name} is not measured: {reason}")

    def _tokenizer(self, checkpoint: Published, path: Path) -> Any:
        """That of the checkpoint, or of the repository that provides for it."""
        if checkpoint.tokenizer and not self.loader.tokenizer:
            path = self.hub.folder(checkpoint.tokenizer, patterns=TOKENIZER)
        return self.loader.tokenizer_of(path)

    def _options(self, checkpoint: Published) -> dict[str, Any]:
        """How this one is asked, where nobody asked for another way; and the encoder that the run began with."""
        options, how = self.config.options, checkpoint.asked
        found: dict[str, Any] = {}
        if options.chat == "auto" and how != "auto":
            found["chat"] = how != "plain"
        if how == "no-think" or (how == "think" and options.think == "auto"):
            found["think"] = "off" if how == "no-think" else "on"
        if options.embedder == "auto" and (began := self._manifest().get("encoders", {}).get("encoder")):
            found["embedder"] = began
        return found

    def _probes(self) -> list[Probe]:
        """Read once: the same prompts for all. Raises Wrong: the rows of a task cannot be had."""
        options = self.config.options
        if options.think == "both":
            raise Wrong("think: 'both' would ask each model twice; --models '*nocot' are those without reasoning")
        try:
            return catalog.paper_probes(options.probes, options.num_prompts, options.seed)
        except (ValueError, OSError) as error:
            raise Wrong(f"--tasks: {error}") from error

    def _measured(self) -> dict[tuple[str, str], int]:
        """Step of each checkpoint that is there, by this process or one before it."""
        if not (self.run_directory / "manifest.json").exists():
            return {}
        facts = read_run(self.run_directory).provenance
        return {(str(f.get("checkpoint")), str(f.get("name"))): step for step, f in facts.items()}

    def _last(self) -> int:
        """To go on from: the store keeps what is there, whatever step comes next."""
        steps = list_steps(self.run_directory)
        return max(1, *steps) if steps else 0

    def _manifest(self) -> dict[str, Any]:
        file = self.run_directory / "manifest.json"
        return json.loads(file.read_bytes()) if file.exists() else {}

    # -- replay.json

    @property
    def _settings(self) -> dict[str, Any]:
        return plain({name: value for name, value in self.config.options.record().items() if name not in HOW})

    def _begin(self) -> None:
        """Raises Wrong: it was begun with other settings."""
        try:
            before = json.loads((self.folder / "replay.json").read_bytes())
        except FileNotFoundError:
            before = {}
        except ValueError as error:
            raise Wrong(f"{self.folder / 'replay.json'} is damaged ({error}); give another --out") from None
        self.failures = dict(before.get("failures", {}))
        began, now = before.get("settings", {}), self._settings
        differ = [name for name in now if name in began and began[name] != now[name]]
        if differ and list_steps(self.run_directory):
            name = differ[0]
            raise Wrong(
                f"the replay in {self.folder} was begun with {name} = {began[name]!r}, now it is {now[name]!r}; give"
                " another --out, or what it began with"
            )
        self._record()

    def _record(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = {"settings": self._settings, "failures": self.failures}
        write_whole(self.folder / "replay.json", strict_json(whole, indent=1))

    def _end(self) -> int:
        """Says what there is: the overlay, and what is missing, each reason once."""
        there, missing = self._measured(), []
        if there:
            from divmon.lineages.published import overlay as paper_overlay

            frame = paper_overlay.overlay(read_run(self.run_directory))
            write_csv(frame, self.folder / "paper_overlay.csv")
            show(paper_overlay.text(frame))
            say(f"divmon replay: {len(there)} snapshots in {self.run_directory}, the overlay beside them")
            missing = list(_missing(self.run_directory))
        by_reason: dict[str, list[str]] = {}
        for checkpoint in self.checkpoints:
            if _key(checkpoint) not in there:
                by_reason.setdefault(self.failures.get(checkpoint.name, "unknown"), []).append(checkpoint.name)
        for reason, names in by_reason.items():
            show(f"divmon replay: not measured: {', '.join(names)}: {reason}", file=sys.stderr)
        for line in missing:
            show(f"divmon replay: {line}", file=sys.stderr)
        return PARTLY if by_reason or missing else DONE


def _missing(run_directory: Path) -> Iterator[str]:
    """Snapshots that lack completions, for example because the time limit was reached."""
    run = read_run(run_directory)
    prompts = sum(len(probe.prompts) for probe in run.probes)
    for step, facts in run.provenance.items():
        if facts["completions"] < (asked := prompts * facts["num_samples"]):
            why = next(iter(run.read(step).missing.values()), "unknown")
            yield f"{facts['name']} has {facts['completions']:,} of {asked:,} completions: {why}"


def _key(checkpoint: Published) -> tuple[str, str]:
    return checkpoint.checkpoint, checkpoint.name


def _steps(checkpoints: Sequence[Published], taken: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Step of each checkpoint; the next free one if it is taken, as after a new branch appeared in between."""
    steps = dict(taken)
    for checkpoint in checkpoints:
        if _key(checkpoint) not in steps:
            used, step = set(steps.values()), checkpoint.step
            while step in used:
                step += 1
            steps[_key(checkpoint)] = step
    return steps
