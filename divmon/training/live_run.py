"""LiveRun: one run while it goes on. What its measurements need and leave, from its prompts to its store."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from divmon.grading import verifiers
from divmon.grading.users_code import called, is_ours, limited
from divmon.loggers import Logger, close_all, say, say_once, show_all
from divmon.loggers.places import own_loggers
from divmon.options import Options
from divmon.pipeline import Pipeline
from divmon.sampling import Engine, Request, TrainingEngine
from divmon.sampling.sampler import Sampler
from divmon.scoring.reference import Measurement, reference_run
from divmon.scoring.scorer import Scorer
from divmon.storage.reader import FOLDER
from divmon.storage.writer import Store
from divmon.training import reference_reuse
from divmon.training.alert_actions import Alarms
from divmon.training.continuation import new_metrics, reference_to_go_on_with
from divmon.training.distributed import Processes
from divmon.training.process_shares import Spread
from divmon.training.protocol import Asking
from divmon.training.run_record import manifest
from divmon.training.setup import make_sampler, make_scorer
from divmon.training.sharded_models import free_memory, sharding_of, unwrapped, whole
from divmon.training.stored_texts import StoredTexts, WithStoredTexts
from divmon.training.timing import Meter
from divmon.types import Probe, Sample, Snapshot, Verdict
from divmon.undisturbed import Peak, undisturbed_process

ROOM = 0.7
"""Share of a process's free memory that the parameters of a sharded model may take; the rest is for a batch."""


class LiveRun:
    """Samples, grades, scores, stores and logs on request, for as long as one run lasts.

    With several processes every one of them calls `take`; each samples a share of the prompts, and the main one scores,
    stores and logs.

    Args:
        loggers: where the scores go; TensorBoard under the output directory, active global runs and the console where
            not given.
        engine: samples in place of a model in this process: a server, stored samples (`divmon.sampling.engines`).
        trainer: where there is one; holds DeepSpeed's engine, its own vLLM.
        reference_model: gives, of the model, the one that the reference is measured on in its place.
        candidate: gives, of the model, one at hand that may be the reference model.
        planned_looks: measurements that are planned after the reference, 0 where that is not known.
        keep_loggers: leave them open at the end, for the next run.

    Raises:
        ValueError: an action of `alerts` is unknown.
    """

    def __init__(
        self,
        options: Options,
        *,
        loggers: Sequence[Logger] | None = None,
        engine: Engine | None = None,
        trainer: Any = None,
        reference_model: Callable[[Any], AbstractContextManager[Any]] | None = None,
        candidate: Callable[[Any], AbstractContextManager[Any]] | None = None,
        planned_looks: int = 0,
        keep_loggers: bool = False,
    ) -> None:
        self.options = options
        self.loggers = list(loggers) if loggers is not None else None
        self.engine = engine
        self.store: Store | None = None
        self.asking: Asking | None = None
        self.scorer: Scorer | None = None
        self.processes = Processes(alone=True)
        self.seconds = 0.0
        """Spent in measurements so far, and in what training waited for besides (`charge`)."""
        self.alarms = Alarms(options, self.say, planned_looks)
        self._trainer, self._reference_model, self._keep_loggers = trainer, reference_model, keep_loggers
        self._prepared = False
        self._told: set[tuple[str, str]] = set()
        self._sampler: TrainingEngine | None = None
        self._reference: Measurement | None = None
        self._candidate = candidate
        self.texts: StoredTexts | None = None
        """The likelihood of stored completions, where it is measured."""
        self._record: dict[str, Any] = {}

    def prepare(
        self,
        model: Any,
        processing_class: Any,
        *,
        output_dir: str | Path,
        resume_step: int = 0,
        train_dataset: Any = None,
        eval_dataset: Any = None,
    ) -> None:
        """Resolves and checks everything that a measurement needs, so that what is wrong is said before training.

        Every process of the run must come here; what is wrong in one is an error in all.

        Raises:
            ValueError, FileNotFoundError: an option does not fit; the message says what to do.
            RuntimeError: another process found something wrong, or did not come.
        """
        options = self.options
        self.processes = Processes(options.timeout, alone=options.processes == "main")

        def here() -> None:
            # Loading an encoder initialises weights, data sets shuffle: none of it may move the training's generators.
            with self.guarded():
                self.asking = Asking(options, processing_class, train_dataset, eval_dataset, model)
                if model is not None:
                    sizes = [len(r.prompt.input_ids) + r.decoding.max_new_tokens for r in self.asking.requests(1)]
                    self._sampler = make_sampler(
                        options, model, self.asking.renderer, self.processes, self._trainer, max(sizes)
                    )
                if self.processes.is_main:
                    self._prepare_main(model, Path(output_dir), resume_step)

        self.processes.all_or_none(here)
        self._ask_the_model(model)
        self._prepared = True

    def _ask_the_model(self, model: Any) -> None:
        """Has the model's own probabilities recorded, where a metric asks for them; the main process knows."""
        takes = [name for metric in self.scorer.metrics for name in metric.needs] if self.scorer else []
        wanted = self.processes.tell(takes if self.options.likelihood else [])
        engine = self.engine or self._sampler
        if isinstance(engine, Sampler):
            engine.likelihood = "likelihood_PKF" in wanted
        elif "likelihood_PKF" in wanted and self.processes.is_main and engine is not None:
            self.say(f"divmon: no token entropy nor top-1 mass: {engine.name} does not give the model's probabilities")
        if "stored_nll_PF" not in wanted or model is None or self.engine is not None:
            return
        assert self.asking is not None
        together = self.processes if sharding_of(model) in ("fsdp1", "fsdp2") else None
        self.texts = StoredTexts(self.asking.rows, self.processes, self.whole, together, self._candidate)
        if self._reference is not None:
            self.texts.remember(self.asking.requests(1), self._reference.snapshot)

    def take_stored_texts(self, model: Any, step: int) -> Snapshot | None:
        """Scores the reference's completions alone, with what changed; every process must call it, the main one gets
        the snapshot, which has no samples."""
        assert self.texts is not None
        with self.guarded():
            began = time.perf_counter()
            nll = self.texts.of_reference(model)
            if self.store is not None:
                self.texts.record_failures(self.store, step)
            self.seconds += time.perf_counter() - began
        if self._reference is None or not nll:
            return None
        four = {key: (now, self.texts.baseline.get(key, math.nan), math.nan, math.nan) for key, now in nll.items()}
        return self._pipeline().of_stored_texts(self.probes, four, step, self._reference)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What to be inside of to run code that is not ours: it is limited in time, and the process is as it was."""
        with undisturbed_process(), limited(self.options.user_timeout):
            yield

    @contextmanager
    def whole(self, model: Any) -> Iterator[None]:
        """What to be inside of to call a model whose parameters are sharded."""

        def has_room(size: int) -> bool:
            return not self.processes.largest(int(size > ROOM * free_memory(model)))

        with whole(model, getattr(self._trainer, "model_wrapped", None), has_room) as apart:
            if isinstance(self._sampler, Sampler) and sharding_of(model):
                self._sampler.together = None if apart else self.processes
            yield

    def _prepare_main(self, model: Any, output_dir: Path, resume_step: int) -> None:
        """What the main process alone does: score, store and log."""
        assert self.asking is not None
        options = self.options
        self.scorer = make_scorer(options, self.asking, model)
        notices = [*self.asking.notes(), *self.asking.cannot_judge(), *self.scorer.notes()]
        drawn_by = self.engine if model is None else unwrapped(model)
        record = manifest(options, self.asking, self.scorer, drawn_by, self.processes.count)
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

    def _restored(self, snapshot: Snapshot) -> Measurement:
        """A stored snapshot as the reference."""
        assert self.asking is not None
        graded = [probe for probe in self.probes if self.asking.verifier(probe) is not None]
        return self._pipeline().stored(snapshot, graded)

    def take(
        self, model: Any, step: int, facts: dict[str, Any] | None = None, *, at_end: bool = False
    ) -> Snapshot | None:
        """Measures, stores and logs; `prepare` came before. Every process must call it, the main one gets the snapshot.

        Args:
            at_end: the last one, where dear metrics come in.

        Raises:
            Disconnected: another process did not come; measuring is over.
        """
        # The sampler guards the model; encoders, verifiers and trackers may draw from the generators too.
        with self.guarded():
            began = time.perf_counter()
            is_reference = self.processes.tell(self._reference is None)
            try:
                with self._model_of(model, is_reference) as measured:
                    if self.processes.is_main:
                        return self._take(measured, step, facts or {}, is_reference, at_end)
                    self._draw(measured, step, is_reference)
                    return None
            finally:
                self.processes.wait()
                self.seconds += time.perf_counter() - began

    def _model_of(self, model: Any, is_reference: bool) -> AbstractContextManager[Any]:
        """The model to measure: the reference's own where there is one."""
        if model is None or not is_reference or self._reference_model is None:
            return nullcontext(model)
        return self._reference_model(model)

    def _draw(self, model: Any, step: int, is_reference: bool) -> None:
        """Draws this process's share for the main one."""
        assert self.asking is not None
        requests = self.asking.requests(self._num_samples(is_reference))
        self._engine(model, is_reference).draw(requests, seed=self.options.seed, step=step)

    def _take(self, model: Any, step: int, facts: dict[str, Any], is_reference: bool, at_end: bool) -> Snapshot:
        assert self.store is not None and self.asking is not None and self.scorer is not None
        began, options, num_samples = time.perf_counter(), self.options, self._num_samples(is_reference)
        requests = self.asking.requests(num_samples)
        key = self._fingerprint(model, requests, step) if is_reference else ""
        with Peak() as peak:
            again = reference_reuse.kept(key, step)
            if again is not None and self.texts is not None:
                self.texts.remember(requests, again.snapshot)
            measured = again or self._measured(model, requests, step, is_reference, at_end)
        if self.texts is not None:
            self.texts.record_failures(self.store, step)
        if is_reference and again is None:
            reference_reuse.keep(key, measured)
        snapshot = measured.snapshot
        seconds = self.seconds + time.perf_counter() - began
        snapshot.provenance.update(facts, total_seconds=seconds, peak_memory_added_mb=peak.added_mb)
        if is_reference and self.store.new_reference:
            snapshot.provenance["new_reference"] = self.store.new_reference
        if is_reference and self._reference_model is not None:
            snapshot.provenance["measured"] = options.reference
        if not is_reference:
            self.alarms.look(snapshot)
        if is_reference and snapshot.samples:  # nothing can be compared with a snapshot of nothing
            self._reference = measured
        try:
            if self._reference is measured:
                self.store.refer_to(step)  # a resumed run takes no other, should this one not be written
            self.store.write(snapshot)
        finally:  # a full disk does not take the curves away too
            self.show(snapshot, self.probes)
        if self._reference is measured:
            self.alarms.begin(measured, self.probes, self.store)
        return snapshot

    def _measured(
        self, model: Any, requests: Sequence[Request], step: int, is_reference: bool, at_end: bool
    ) -> Measurement:
        most = max(request.num_samples for request in requests)
        with self._bar(step, most) as done:
            return self._pipeline().measure(
                self.probes,
                requests,
                self._engine(model, is_reference),
                step,
                reference=self._reference,
                at_ends=at_end or is_reference,
                progress=done,
            )

    def _fingerprint(self, model: Any, requests: Sequence[Request], step: int) -> str:
        """Of the reference to be measured; "" where the one of the run before is not to be taken."""
        if not isinstance(self._sampler, Sampler) or self.processes.count > 1 or self._reference_model is not None:
            return ""
        metrics = self.options.metrics
        if not isinstance(metrics, str) and any(callable(metric) for metric in metrics):
            return ""
        args = getattr(self._trainer, "args", None)
        return reference_reuse.fingerprint(self._record, requests, step, unwrapped(model), args)

    def _pipeline(self) -> Pipeline:
        assert self.asking is not None and self.scorer is not None
        options = self.options
        full = options.on == "full"
        return Pipeline(self.scorer, self.asking.grade, options.num_samples, options.seed, full)

    def _num_samples(self, is_reference: bool) -> int:
        assert self.options.reference_samples is not None
        return self.options.reference_samples if is_reference else self.options.num_samples

    def _engine(self, model: Any, is_reference: bool) -> Engine:
        if self.engine is not None:
            return self.engine
        assert self._sampler is not None
        self._sampler.use(unwrapped(model))
        spread = self._spread(model)
        return spread if self.texts is None else WithStoredTexts(spread, self.texts, model, is_reference)

    def _spread(self, model: Any) -> Spread:
        assert self._sampler is not None
        return Spread(self._sampler, self.processes, lambda: self.whole(model), self.options.num_samples)

    def show(self, snapshot: Snapshot, probes: Sequence[Probe], loggers: Sequence[Logger] | None = None) -> None:
        """Logs to every place, whatever becomes of one; to all the monitor's where none are given."""
        places = (self.loggers or []) if loggers is None else loggers
        strict = self.options.on_error == "raise"
        for place, reason in show_all(places, snapshot, probes, strict=strict, calls=called).items():
            fact = {"step": snapshot.step, "reason": reason, "what": f"logging to {place}"}
            if self.store is not None and (place, reason) not in self._told:
                self._told.add((place, reason))  # a place that is down fails at every step
                self.store.append("failures", fact)

    @contextmanager
    def meter(self, model: Any) -> Iterator[Meter]:
        """Times what a measurement takes; every process must come here."""
        assert self._sampler is not None and self.asking is not None
        self._sampler.use(unwrapped(model))
        requests = self.asking.requests(self.options.num_samples)
        with self.whole(model):
            yield Meter(self._spread(model), requests, None if self.scorer is None else self._score)

    def _score(self, requests: Sequence[Request], engine: Engine) -> None:
        """Grades and scores what an engine gives, for nobody to see: no function of the user's own is called for it."""
        assert self.asking is not None and self.scorer is not None
        asked = {request.key for request in requests}
        probes = [
            replace(probe, prompts=tuple(prompt for prompt in probe.prompts if (probe.name, prompt.id) in asked))
            for probe in self.probes
        ]
        asking = self.asking

        def ours(probe: Probe, samples: Sequence[Sample]) -> list[Verdict]:
            rule = asking.verifier(probe)
            return asking.grade(probe, samples) if rule is not None and verifiers.load(rule).is_ours else []

        scorer = copy.copy(self.scorer)
        scorer.metrics = [metric for metric in scorer.metrics if is_ours(metric.function)]
        replace(self._pipeline(), scorer=scorer, grader=ours).measure(probes, requests, engine, step=-1)

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

    def release(self) -> None:
        """Lets go of the model last measured, whose memory the next one may need."""
        if self._sampler is not None:
            self._sampler.release()

    def leave(self) -> None:
        """Lets go of everything that is the training's own; whoever keeps this object keeps no model alive with it."""
        self.release()
        if self.options.sampler == "vllm":  # it holds the trainer, and may be an engine of our own
            self._sampler = None
        self._trainer = self._reference_model = self._candidate = self.texts = None
        self.loggers = []

    def close(self) -> None:
        """Closes the store and the loggers; a later `measure` opens them again."""
        self._prepared = False
        self.processes.part()
        if self.store is not None:
            self.store.close()
            self.store = None
        with self.guarded():
            close_all([] if self._keep_loggers else self.loggers or [], called)

    def say(self, line: str) -> None:
        """Shows a person one line."""
        say(line)

    def _bar(self, step: int, num_samples: int) -> Any:
        from divmon.loggers.console import progress_bar

        prompts = sum(len(probe.prompts) for probe in self.probes)
        return progress_bar(f"divmon: step {step}", prompts * num_samples, shown=self.options.progress)
