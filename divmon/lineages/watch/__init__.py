"""Measures checkpoints as a training run writes them, each once, as soon as they are complete.

Results go to `OUTPUT_DIR/_divmon_watch`: `_divmon` belongs to the callback, and a training that starts with it must
neither find its directory locked nor move the results of a watch aside.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from divmon.lineages.watch.checkpoints import STATE, Checkpoint, Loader, NotWhole, Signature, Unusable, found
from divmon.lineages.watch.served import ServerCommand, drawing
from divmon.storage.reader import WATCH_FOLDER, list_steps
from divmon.storage.snapshot_files import read_marker

DONE, PARTLY = 0, 3
SETTLE = 2.0
"""Seconds between two looks that must find the same files before a checkpoint counts as written."""
TRIES = 2


class Wrong(Exception):
    """An option does not fit; the message says why and what to do."""


class Watch:
    """Watches a folder for checkpoints and measures each once.

    Args:
        make_monitor: gives a `DiversityMonitor`, not yet prepared.
        loader: gives the models, and the tokenizer.
        server: serves each checkpoint for sampling, instead of a model in this process.
        reference: a model to measure as step 0, before the first checkpoint.
        poll: seconds between two scans of the folder.
        until: when to end: "measured", once every whole checkpoint is; "trained", once that of the end of training is;
            None, never.
    """

    def __init__(
        self,
        output_dir: Path,
        make_monitor: Callable[[], Any],
        loader: Loader,
        *,
        server: ServerCommand | None = None,
        reference: str | None = None,
        poll: float = 30.0,
        until: Literal["measured", "trained"] | None = None,
    ) -> None:
        self.output_dir, self.loader, self.server = output_dir, loader, server
        self.make_monitor, self.monitor = make_monitor, make_monitor()
        self.folder = Path(self.monitor.options.output_dir or output_dir / WATCH_FOLDER)
        self.reference, self.poll, self.until = reference, poll, until
        self.failures: dict[int, str] = {}
        """Why a checkpoint was not measured, by step."""
        self._seen: dict[int, Signature] = {}
        self._tries: dict[int, tuple[Signature, int]] = {}
        self._unfinished: dict[int, str] = {}
        self._same: dict[int, Signature] = {}
        self._written_anew: float = math.inf
        """The first step whose checkpoint is not the one that was measured."""

    @property
    def steps(self) -> list[int]:
        """Steps measured, by this process or one before it."""
        return [step for step in list_steps(self.folder) if step < self._written_anew]

    def run(self) -> int:
        """Watches until there is nothing left to wait for, and returns the exit code. Raises Wrong: an option does not
        fit."""
        if self.reference is not None and self.steps and 0 not in self.steps:
            raise Wrong(
                f"the run in {self.folder} has another reference, step {self.steps[0]}; --fresh begins a new one"
            )
        if not self.output_dir.is_dir():
            self._say(f"there is no {self.output_dir} yet; waiting for it")
        try:
            while True:
                ready, moving = self._look()
                if ready:
                    self._measure(ready[0])
                elif moving:
                    time.sleep(min(self.poll, SETTLE))
                elif self.until == "measured" or (self.until == "trained" and self._is_over()):
                    return self._end()
                else:
                    time.sleep(self.poll)
        finally:
            self.monitor.close()

    def _look(self) -> tuple[list[Checkpoint], bool]:
        """The checkpoints to measure, by step, and whether files have changed since the last look."""
        checkpoints = found(self.output_dir)
        self._supersede(checkpoints)
        done, seen, ready, moving = set(self.steps), {}, [], False
        for checkpoint in checkpoints:
            step, signature = checkpoint.step, checkpoint.signature
            if step in done or self._tries.get(step) == (signature, TRIES):
                continue
            seen[step] = signature
            if self._seen.get(step) != signature:
                moving = True
                continue
            try:
                checkpoint.check()
                ready.append(checkpoint)
            except NotWhole as reason:
                if self._unfinished.get(step) != str(reason):
                    self._say(f"checkpoint-{step} is not whole yet: {reason}")
                self._unfinished[step] = str(reason)
            except Unusable as reason:
                self._fail(checkpoint, str(reason), last=True)
        for step in self._seen.keys() - seen.keys() - done - self.failures.keys():
            self._fail(Checkpoint(step, self.output_dir / f"checkpoint-{step}"), "deleted before it was measured")
        self._seen = seen
        return ready, moving

    def _supersede(self, checkpoints: list[Checkpoint]) -> None:
        """Where training went back and has written a measured checkpoint anew, its results and later ones are void."""
        done = set(self.steps)
        for checkpoint in checkpoints:
            step = checkpoint.step
            stamp = tuple(file for file in checkpoint.signature if file[0] == STATE)
            if step not in done or not stamp or self._same.get(step) == stamp:
                continue
            self._same[step] = stamp
            if checkpoint.identity != self._measured_identity(step):
                self._say(f"checkpoint-{step} is not the one that was measured: it and later ones are measured anew")
                self.monitor.close()
                self.monitor, self._written_anew = self.make_monitor(), step
                return

    def _measured_identity(self, step: int) -> str | None:
        try:
            return read_marker(self.folder, step)["provenance"].get("identity")
        except ValueError as error:
            self._say(f"{error}; it is measured anew")
            return None

    def _measure(self, checkpoint: Checkpoint) -> None:
        from divmon.undisturbed import release_memory

        try:
            if self.reference is not None and 0 not in self.steps:
                self._measure_reference(self.reference, checkpoint)
            state = checkpoint.state
            facts = {
                "checkpoint": str(checkpoint.path),
                "identity": checkpoint.identity,
                "epoch": state.get("epoch"),
                "tokens": state.get("num_input_tokens_seen") or None,
                "max_steps": state.get("max_steps"),
            }
            self._take(checkpoint.path, checkpoint.step, facts, checkpoint, at_end=checkpoint.ends_training)
        except Wrong:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"
            if checkpoint.signature != self._seen.get(checkpoint.step):
                reason = f"deleted or changed while it was read ({reason})"
            self._fail(checkpoint, reason, last=isinstance(error, Unusable))
        else:
            self.failures.pop(checkpoint.step, None)
        finally:
            self.monitor.release()
            release_memory()

    def _measure_reference(self, name: str, checkpoint: Checkpoint) -> None:
        """The reference is asked through the checkpoint's tokenizer, so that all are asked alike."""
        try:
            self._take(name, 0, {"checkpoint": name}, checkpoint)
        except Wrong:
            raise
        except Exception as error:
            raise Wrong(f"--reference {name}: {type(error).__name__}: {error}") from error
        finally:
            self.monitor.release()

    def _take(
        self, name: str | Path, step: int, facts: dict[str, Any], checkpoint: Checkpoint, *, at_end: bool = False
    ) -> None:
        tokenizer = self.loader.tokenizer_of(checkpoint.path) if self.monitor.store is None else None
        with drawing(self.monitor, name, self.loader, self.server, lambda: self._renderer(tokenizer)) as model:
            if self.monitor.store is None:
                self._prepare(model, tokenizer)
            self.monitor.take(model, step, facts, at_end=at_end)

    def _renderer(self, tokenizer: Any) -> Any:
        from divmon.training.protocol import Asking

        return (self.monitor.asking or Asking(self.monitor.options, tokenizer)).renderer

    def _prepare(self, model: Any, tokenizer: Any) -> None:
        """Opens the store. What it holds stays, whatever step comes next, but for what was written anew. Raises Wrong:
        an option does not fit, or another process writes there."""
        steps = self.steps
        try:
            last = min(max(1, *steps), self._written_anew - 1) if steps else 0
            self.monitor.prepare(model, tokenizer, output_dir=self.folder, resume_step=last)
        except Exception as error:
            raise Wrong(str(error)) from error
        self._written_anew = math.inf
        # Unlike a callback, this process cannot see what training speaks.
        self._say(f"a prompt as the model sees it: {self.monitor.asking.requests(1)[0].prompt.text!r}")
        earlier = {failure["step"]: failure["reason"] for failure in self.monitor.store.manifest.get("failures", ())}
        self.failures = {step: why for step, why in (earlier | self.failures).items() if step not in steps}
        if self.failures != earlier:
            self._record()

    def _fail(self, checkpoint: Checkpoint, reason: str, *, last: bool = False) -> None:
        """Records a failure. A change of the checkpoint's files gives it new tries."""
        step, signature = checkpoint.step, checkpoint.signature
        tried, count = self._tries.get(step, (signature, 0))
        count = TRIES if last else count + 1 if tried == signature else 1
        self._tries[step] = signature, count
        self.failures[step] = reason
        self._seen.pop(step, None)  # looked at anew, after the others that are ready
        again = ", to be tried once more" if count < TRIES and signature else ""
        self._say(f"checkpoint-{step} could not be measured{again}: {reason}")
        self._record()

    def _record(self) -> None:
        """Facts of a run are appended: a failure stays in the record after a later try that succeeds."""
        if self.monitor.store is not None:
            before = self.monitor.store.manifest.get("failures", [])
            for step, why in sorted(self.failures.items()):
                if not any((failure["step"], failure["reason"]) == (step, why) for failure in before):
                    self.monitor.store.append("failures", {"step": step, "reason": why})

    def _is_over(self) -> bool:
        for checkpoint in reversed(found(self.output_dir)):
            try:
                return checkpoint.ends_training
            except NotWhole:
                continue
        return False

    def _end(self) -> int:
        from divmon.loggers.console import closing_lines

        steps = self.steps
        if self.monitor.store is not None:
            self.monitor.say(closing_lines(self.monitor.store, self.monitor.store.problems()))
        left_out = {step: f"not whole: {why}" for step, why in self._unfinished.items()} | self.failures
        for step in sorted(left_out.keys() - set(steps)):
            self._say(f"checkpoint-{step} is not among them: {left_out[step]}")
        return PARTLY if left_out.keys() - set(steps) else DONE

    def _say(self, line: str) -> None:
        self.monitor.say(f"divmon watch: {line}")
