"""Results: what the main process of a run does with samples. It grades, scores, compares, stores and logs them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from divmon.grading.users_code import called, limited
from divmon.loggers import Logger, say, say_once, show_all
from divmon.loggers.places import own_loggers
from divmon.options import Options
from divmon.pipeline import Pipeline, Sampled
from divmon.sampling import Engine, Key
from divmon.scoring.reference import Measurement, reference_run
from divmon.scoring.scorer import Scorer
from divmon.storage.reader import FOLDER
from divmon.storage.writer import Store
from divmon.training.alert_actions import Alarms
from divmon.training.background_scoring import BackgroundScoring, is_safe, leaves_cores
from divmon.training.continuation import new_metrics, reference_to_go_on_with
from divmon.training.protocol import Asking
from divmon.training.run_record import manifest
from divmon.training.setup import make_scorer
from divmon.training.sharded_models import unwrapped
from divmon.types import Probe, Snapshot
from divmon.undisturbed import undisturbed_process

logger = logging.getLogger("divmon")


class Results:
    """The results of one run: its scorer, its reference, its alerts, its store and its loggers.

    Args:
        loggers: where the scores go; places of the run's own where None.

    Raises:
        ValueError: an action of `alerts` is unknown.
    """

    def __init__(self, options: Options, loggers: Sequence[Logger] | None) -> None:
        self.options = options
        self.loggers = list(loggers) if loggers is not None else None
        self.store: Store | None = None
        self.asking: Asking | None = None
        self.scorer: Scorer | None = None
        self.seconds = 0.0
        """Spent in measurements so far, and in what training waited for besides (`charge`)."""
        self.alarms = Alarms(options, self.say)
        self._told: set[tuple[str, str]] = set()
        self._reference: Measurement | None = None
        self._record: dict[str, Any] = {}
        self._background: BackgroundScoring | None = None

    def _open(self, model: Any, engine: Engine | None, processes: int, output_dir: Path, resume_step: int) -> None:
        """Resolves what scores, the store with the reference to go on with, and the loggers."""
        assert self.asking is not None
        options = self.options
        self.scorer = make_scorer(options, self.asking, model)
        notices = [*self.asking.notes(), *self.asking.cannot_judge(), *self.scorer.notes()]
        record = manifest(options, self.asking, self.scorer, engine if model is None else unwrapped(model), processes)
        for line in notices:
            say_once(line, record["model"])
        self._record, before = record, None
        if options.reference not in ("first", "ref_model", "base"):
            before, left_out = reference_run(options.reference, record)
            for line in left_out:
                self.say(line)
        self.store = Store(output_dir, max_samples_mb=options.max_samples_mb, say=self.say).open(
            record, resume_step=resume_step
        )
        if before is not None:
            self._reference = self._restored(before)
        else:
            self._reference = reference_to_go_on_with(self.store, record, resume_step, self._restored)
        if line := new_metrics(self.store.manifest, self.scorer.names):
            self.say(line)
        if self._reference is not None:
            self.alarms.go_on(self._reference, self.probes, self.store)
        if self.loggers is None:
            # Beside a folder of the usual name; folders of other names may lie side by side: each has its own curves.
            beside = output_dir.name.startswith(FOLDER)
            where = output_dir.parent if beside else output_dir
            self.loggers = own_loggers(where, resume_step, options.tensorboard == "all")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What to be inside of to run code that is not ours: it is limited in time, and the process is as it was."""
        with undisturbed_process(), limited(self.options.user_timeout):
            yield

    def _restored(self, snapshot: Snapshot) -> Measurement:
        """A stored snapshot as the reference."""
        assert self.asking is not None
        graded = [probe for probe in self.probes if self.asking.verifier(probe) is not None]
        return self._pipeline().stored(snapshot, graded)

    @property
    def probes(self) -> list[Probe]:
        """What is asked; none before the first measurement is prepared."""
        return self.asking.probes if self.asking is not None else []

    @property
    def reference(self) -> Snapshot | None:
        """What changes are taken against: the first snapshot of the run."""
        return self._reference.snapshot if self._reference is not None else None

    def charge(self, seconds: float) -> None:
        """Counts what training waited for besides measurements: loading encoders, timing the price, rollouts."""
        self.seconds += seconds

    def _pipeline(self) -> Pipeline:
        assert self.asking is not None and self.scorer is not None
        options = self.options
        full = options.on == "full"
        return Pipeline(self.scorer, self.asking.grade, options.num_samples, options.seed, full)

    def _can_score_later(self, model: Any) -> bool:
        assert self.asking is not None and self.scorer is not None
        options = self.options
        in_line = options.on_error == "raise" or options.keep_best  # whose weights are gone by then
        rules = map(self.asking.verifier, self.probes)
        return not in_line and leaves_cores(model) and is_safe(self.scorer.metrics, rules)

    def _score_later(self, sampled: Sampled) -> bool:
        """Begins to score it beside training; False where an encoder failed, which is recorded when it fails again."""
        pipeline, probes, reference = self._pipeline(), self.probes, self._reference
        try:
            sampled = pipeline.embedded(probes, sampled)
        except Exception as error:
            logger.warning("divmon: scored before training goes on, as an encoder failed: %s", error)
            return False
        self._background = BackgroundScoring(
            lambda: pipeline.scored(probes, sampled, reference),
            at_exit=self._written,
        )
        return True

    def _scored(self, sampled: Sampled, at_ends: bool) -> Measurement:
        return self._pipeline().scored(self.probes, sampled, self._reference, at_ends=at_ends)

    def _noted(self, measured: Measurement, facts: dict[str, Any], seconds: float) -> Snapshot:
        """Tests for alerts, stores and logs.

        Args:
            seconds: that measuring has taken in this run.
        """
        assert self.store is not None
        snapshot, is_reference = measured.snapshot, self._reference is None
        snapshot.provenance.update(facts, total_seconds=seconds)
        if is_reference and self.store.new_reference:
            snapshot.provenance["new_reference"] = self.store.new_reference
        if not is_reference:
            self.alarms.look(snapshot)
        if is_reference and snapshot.samples:  # nothing can be compared with a snapshot of nothing
            self._reference = measured
        try:
            if self._reference is measured:
                self.store.refer_to(snapshot.step)  # a resumed run takes no other, should this one not be written
            self.store.write(snapshot)
        finally:  # a full disk does not take the curves away too
            self.show(snapshot, self.probes)
        if self._reference is measured:
            self.alarms.begin(measured, self.probes, self.store)
        return snapshot

    def _written(self, background: BackgroundScoring) -> None:
        """Stored and no more, at the end of the program."""
        if self.store is not None:
            measured, facts = background.result(), background.facts
            measured.snapshot.provenance.update(facts, total_seconds=self.seconds)
            self.alarms.look(measured.snapshot)
            self.store.write(measured.snapshot)

    def _settled(self) -> Snapshot:
        background, self._background = self._background, None
        assert background is not None
        return self._noted(background.result(), background.facts, self.seconds)

    def of_stored_texts(self, nll: Mapping[Key, float], baseline: Mapping[Key, float], step: int) -> Snapshot | None:
        """The figures of the reference's completions alone, a snapshot without samples; None without a reference.

        Args:
            nll: nats per token by prompt under the model now, and `baseline` under the reference.
        """
        if self._reference is None or not nll:
            return None
        four = {key: (now, baseline.get(key, math.nan), math.nan, math.nan) for key, now in nll.items()}
        return self._pipeline().of_stored_texts(self.probes, four, step, self._reference)

    def show(self, snapshot: Snapshot, probes: Sequence[Probe], loggers: Sequence[Logger] | None = None) -> None:
        """Logs to every place, whatever becomes of one; to all the monitor's where none are given."""
        places = (self.loggers or []) if loggers is None else loggers
        strict = self.options.on_error == "raise"
        for place, reason in show_all(places, snapshot, probes, strict=strict, calls=called).items():
            fact = {"step": snapshot.step, "reason": reason, "what": f"logging to {place}"}
            if self.store is not None and (place, reason) not in self._told:
                self._told.add((place, reason))  # a place that is down fails at every step
                self.store.append("failures", fact)

    def _close_store(self) -> None:
        try:
            if self._background is not None:  # of a training that was broken off
                self._settled()
        finally:
            self._background = None
            if self.store is not None:
                self.store.close()
                self.store = None

    def say(self, line: str) -> None:
        """Shows a person one line."""
        say(line)
