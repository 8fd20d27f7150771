"""LiveRun: one run while it goes on, in every process. What its measurements need, from its prompts to its store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from divmon.grading.users_code import called
from divmon.loggers import Logger, close_all
from divmon.loggers.console import progress_bar
from divmon.options import Options
from divmon.pipeline import Sampled
from divmon.sampling import Engine, Request, TrainingEngine
from divmon.sampling.sampler import Sampler
from divmon.training import reference_reuse
from divmon.training.distributed import Processes
from divmon.training.process_shares import Spread
from divmon.training.protocol import Asking
from divmon.training.results import Results
from divmon.training.scoring_times import ScoringTimes
from divmon.training.setup import make_sampler
from divmon.training.sharded_models import free_memory, sharding_of, unwrapped, whole
from divmon.training.stored_texts import StoredTexts, WithStoredTexts
from divmon.training.timing import Meter
from divmon.types import Snapshot
from divmon.undisturbed import Peak

ROOM = 0.7
"""Share of a process's free memory that the parameters of a sharded model may take; the rest is for a batch."""


class LiveRun(Results):
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
        keep_loggers: bool = False,
    ) -> None:
        super().__init__(options, loggers)
        self.engine = engine
        self.processes = Processes(alone=True)
        self.texts: StoredTexts | None = None
        """The likelihood of stored completions, where it is measured."""
        self.pending: int | None = None
        """Step of the measurement that is scored beside training, in every process."""
        self._trainer, self._reference_model, self._keep_loggers = trainer, reference_model, keep_loggers
        self._candidate = candidate
        self._prepared = False
        self._sampler: TrainingEngine | None = None

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
                    self._open(model, self.engine, self.processes.count, Path(output_dir), resume_step)

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

    @contextmanager
    def whole(self, model: Any) -> Iterator[None]:
        """What to be inside of to call a model whose parameters are sharded."""

        def has_room(size: int) -> bool:
            return not self.processes.largest(int(size > ROOM * free_memory(model)))

        with whole(model, getattr(self._trainer, "model_wrapped", None), has_room) as apart:
            if isinstance(self._sampler, Sampler) and sharding_of(model):
                self._sampler.together = None if apart else self.processes
            yield

    def take(
        self,
        model: Any,
        step: int,
        facts: dict[str, Any] | None = None,
        *,
        at_end: bool = False,
        may_score_later: bool = False,
    ) -> Snapshot | None:
        """Measures, stores and logs; `prepare` came before. Every process must call it, the main one gets the snapshot.

        Args:
            at_end: the last one, where dear metrics come in.
            may_score_later: grade and score beside training where that is safe. `pending` tells that it is so, and
                `settle` then gives the snapshot.

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
                        later = may_score_later and not is_reference and not at_end and self._can_score_later(model)
                        return self._take(measured, step, facts or {}, is_reference, at_end, later)
                    self._draw(measured, step, is_reference)
                    return None
            finally:
                self.pending = self.processes.wait(None if self._background is None else step)
                self.seconds += time.perf_counter() - began

    def settle(self, *, wait: bool) -> Snapshot | None:
        """Stores and logs the measurement that is `pending`, where its scores are there; every process must call it.

        Args:
            wait: until they are.

        Raises:
            Exception: what scoring raised.
            Disconnected: another process did not come; measuring is over.
        """
        began = time.perf_counter()
        if not wait and not self.processes.tell(self._background is not None and self._background.done):
            return None
        try:
            return self._settled() if self.processes.is_main else None
        finally:
            self.processes.wait()
            self.pending = None
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

    def _take(
        self, model: Any, step: int, facts: dict[str, Any], is_reference: bool, at_end: bool, later: bool
    ) -> Snapshot | None:
        began = time.perf_counter()
        assert self.asking is not None
        requests = self.asking.requests(self._num_samples(is_reference))
        key = self._fingerprint(model, requests, step) if is_reference else ""
        with Peak() as peak:
            again = reference_reuse.kept(key, step)
            if again is not None and self.texts is not None:
                self.texts.remember(requests, again.snapshot)
            if (measured := again) is None:
                sampled = self._sampled(model, requests, step, is_reference)
                if not (later and self._score_later(sampled)):
                    measured = self._scored(sampled, is_reference or at_end)
        if self.texts is not None and self.store is not None:
            self.texts.record_failures(self.store, step)
        if is_reference and self._reference_model is not None:
            facts = {**facts, "measured": self.options.reference}
        facts = {**facts, "peak_memory_added_mb": peak.added_mb}
        if measured is None:
            assert self._background is not None
            self._background.facts.update(facts)
            return None
        if is_reference and again is None:
            reference_reuse.keep(key, measured)
        return self._noted(measured, facts, self.seconds + time.perf_counter() - began)

    def _sampled(self, model: Any, requests: Sequence[Request], step: int, is_reference: bool) -> Sampled:
        completions, shown = sum(request.num_samples for request in requests), self.options.progress
        with progress_bar(f"divmon: step {step}", completions, shown=shown) as done:
            return self._pipeline().sample(requests, self._engine(model, is_reference), step, done)

    def _fingerprint(self, model: Any, requests: Sequence[Request], step: int) -> str:
        """Of the reference to be measured; "" where the one of the run before is not to be taken."""
        if not isinstance(self._sampler, Sampler) or self.processes.count > 1 or self._reference_model is not None:
            return ""
        metrics = self.options.metrics
        if not isinstance(metrics, str) and any(callable(metric) for metric in metrics):
            return ""
        args = getattr(self._trainer, "args", None)
        return reference_reuse.fingerprint(self._record, requests, step, unwrapped(model), args)

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

    @contextmanager
    def meter(self, model: Any) -> Iterator[Meter]:
        """Times what a measurement takes; every process must come here."""
        assert self._sampler is not None and self.asking is not None
        self._sampler.use(unwrapped(model))
        requests = self.asking.requests(self.options.num_samples)
        scoring = None if self.scorer is None else ScoringTimes(self.scorer, self.asking, requests)
        with self.whole(model):
            yield Meter(self._spread(model), requests, scoring)

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
        self._prepared, self.pending = False, None
        self.processes.part()
        try:
            self._close_store()
        finally:
            with self.guarded():
                close_all([] if self._keep_loggers else self.loggers or [], called)
