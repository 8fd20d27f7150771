"""DiversityMonitor: the whole measurement without a trainer, for plain loops; the callback drives the same object."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divmon import __version__, pipeline
from divmon.asking import Asking
from divmon.guard import undisturbed_rng
from divmon.loggers import Logger
from divmon.options import DiversityConfig, Options, check_names
from divmon.pricing import Price, price
from divmon.reference import Reference, in_rows
from divmon.sampling import Sampler
from divmon.scoring import Scorer
from divmon.store import Store
from divmon.types import Probe, Snapshot

logger = logging.getLogger("divmon")


def options_from(config: Any, named: dict[str, Any]) -> Options:
    """The options of keywords, or of a `DiversityConfig` overridden by keywords.

    Raises:
        TypeError: a keyword is no option, or `config` is something else.
        ValueError: a value is out of range.
    """
    check_names(named)
    if config is None:
        return Options(**named)
    if isinstance(config, DiversityConfig):
        given = {name.removeprefix("divmon_"): value for name, value in vars(config).items() if name != "options"}
        if "num_samples" in named and "reference_samples" not in named:
            given.pop("reference_samples")
        return Options(**{**given, **named})
    raise TypeError(f"config: expected a DiversityConfig, got {type(config).__name__}")


class DiversityMonitor:
    """Draws, scores, stores and logs on request.

    >>> monitor = DiversityMonitor("gsm8k", output_dir="runs/a/_divmon")      # doctest: +SKIP
    >>> snapshot = monitor.measure(model, tokenizer, step=100)                # doctest: +SKIP

    Args:
        probes: what to ask; every form of `divmon.probes.resolve`.
        config: the options as a `DiversityConfig`.
        loggers: where the scores go; TensorBoard under the output directory, active global runs and the console where
            not given.
        options: by keyword, see `divmon.options.Options`; `every`, `at` and the like mean nothing here.

    Raises:
        TypeError, ValueError: an option is unknown or out of range.
    """

    def __init__(
        self, probes: Any = None, *, config: Any = None, loggers: Sequence[Logger] | None = None, **options: Any
    ) -> None:
        if probes is not None:
            options["probes"] = probes
        self.options = options_from(config, options)
        self.loggers = list(loggers) if loggers is not None else None
        self.store: Store | None = None
        self.asking: Asking | None = None
        self.seconds = 0.0
        """Spent in measurements so far."""
        self._sampler: Sampler | None = None
        self._scorer: Scorer | None = None
        self._reference: Reference | None = None

    def measure(self, model: Any, tokenizer: Any = None, step: int = 0, **facts: Any) -> Snapshot:
        """Measures once and returns the snapshot, stored and logged. The model is left as it was.

        Args:
            model: a causal language model of transformers, also inside PEFT or DistributedDataParallel.
            tokenizer: its tokenizer (or processor); kept from the first call on.
            step: of training; each step once.
            facts: further provenance, such as `epoch` or `tokens`.

        Raises:
            ValueError: at the first call, an option does not fit the model, the tokenizer or the data.
        """
        model = unwrapped(model)
        if self.store is None:
            self.prepare(model, tokenizer, output_dir=self.options.output_dir or "divmon", resume_step=step)
        assert self.store is not None
        if step in self.store.steps():
            raise ValueError(
                f"step {step} is already measured in {self.store.path}; give each measurement its own step"
            )
        return self.take(model, step, facts)

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

        Raises:
            ValueError, FileNotFoundError: an option does not fit; the message says what to do.
        """
        # Loading an encoder initialises weights, data sets shuffle: none of it may move the training's generators.
        with undisturbed_rng():
            self._prepare(model, processing_class, Path(output_dir), resume_step, train_dataset, eval_dataset)

    def _prepare(
        self,
        model: Any,
        processing_class: Any,
        output_dir: Path,
        resume_step: int,
        train_dataset: Any,
        eval_dataset: Any,
    ) -> None:
        options = self.options
        self.asking = Asking(options, processing_class, train_dataset, eval_dataset)
        self._sampler = Sampler(
            model, self.asking.renderer, how=options.sampler, max_batch_tokens=options.max_batch_tokens
        )
        self._scorer = Scorer(
            options.metrics,
            categories={prompt.category for probe in self.probes for prompt in probe.prompts},
            embedder=options.embedder,
            code_embedder=options.code_embedder,
            nli_model=options.nli_model,
            device=str(next(model.parameters()).device),
            vocab_size=len(self.asking.renderer.tokenizer),
            seed=options.seed,
        )
        for line in self.asking.cannot_judge():
            self.say(line)
        self.store = Store(output_dir, say=self.say).open(self._manifest(model), resume_step=resume_step)
        before = self.store.reference()
        self._reference = self._as_reference(before) if before is not None else None
        if self.loggers is None:
            self.loggers = own_loggers(output_dir.parent, resume_step)

    def take(self, model: Any, step: int, facts: dict[str, Any] | None = None, *, at_end: bool = False) -> Snapshot:
        """Measures, stores and logs; `prepare` came before. `at_end`: the last one, where dear metrics come in."""
        # The sampler guards the model; encoders, verifiers and trackers may draw from the generators too.
        with undisturbed_rng():
            return self._take(model, step, facts or {}, at_end)

    def _take(self, model: Any, step: int, facts: dict[str, Any], at_end: bool) -> Snapshot:
        assert self.store is not None and self.asking is not None
        assert self._sampler is not None and self._scorer is not None
        began = time.perf_counter()
        options = self.options
        num_samples = options.reference_samples if self._reference is None else options.num_samples
        assert num_samples is not None
        self._sampler.model = model
        with self._bar(step, num_samples) as done:
            snapshot, measured = pipeline.measure(
                self.probes,
                render=self.asking.render,
                sampler=self._sampler,
                scorer=self._scorer,
                decodings=self.asking.decodings,
                num_samples=num_samples,
                comparable_samples=options.num_samples,
                seed=options.seed,
                step=step,
                judge=self.asking.judge,
                reference=self._reference,
                at_ends=at_end or self._reference is None,
                full=options.on == "full",
                progress=done,
            )
        self.seconds += time.perf_counter() - began
        snapshot.provenance.update(facts, total_seconds=self.seconds)
        if self._reference is None and snapshot.samples:  # nothing can be compared with a snapshot of nothing
            self._reference = measured
        try:
            self.store.write(snapshot)
        finally:  # a full disk does not take the curves away too
            self._log(snapshot)
        return snapshot

    def _log(self, snapshot: Snapshot) -> None:
        """To every place, whatever becomes of one."""
        for out in self.loggers or []:
            try:
                out.log(snapshot, self.probes)
            except Exception as error:
                if self.options.on_error == "raise":
                    raise
                logger.warning("divmon: could not log step %d to %s: %s", snapshot.step, type(out).__name__, error)

    def price(self, model: Any) -> Price:
        """What one measurement costs, timed on two prompts."""
        assert self._sampler is not None and self.asking is not None
        return price(self._sampler, self.asking.requests(self.options.num_samples))

    @property
    def probes(self) -> list[Probe]:
        """What is asked; none before the first measurement is prepared."""
        return self.asking.probes if self.asking is not None else []

    @property
    def reference(self) -> Snapshot | None:
        """What changes are taken against: the first snapshot of the run."""
        return self._reference.snapshot if self._reference is not None else None

    def _as_reference(self, snapshot: Snapshot) -> Reference:
        """A stored snapshot as the reference of a resumed run; pair distances are computed again from its texts."""
        assert self._scorer is not None and self.asking is not None
        num_samples = int(snapshot.provenance["num_samples"])
        outputs, rows = [], {}
        for probe in self.probes:
            drawn = [(s, v) for s, v in zip(snapshot.samples, snapshot.verdicts, strict=False) if s.task == probe.name]
            if drawn and self.asking.verifier(probe) is not None:
                samples, judged = zip(*drawn, strict=True)
                rows[probe.name] = in_rows(probe, samples, [v.correct for v in judged], num_samples)
                outputs.append(pipeline.outputs(probe, samples, num_samples, rows[probe.name]))
        scored = self._scorer.score(outputs, self.options.num_samples, distances=True)
        return Reference(snapshot, scored.distances, rows)

    def close(self) -> None:
        """Closes the store and the loggers; a later `measure` opens them again."""
        if self.store is not None:
            self.store.close()
            self.store = None
        for out in self.loggers or []:
            try:
                out.close()
            except Exception as error:
                logger.warning("divmon: could not close %s: %s", type(out).__name__, error)

    def say(self, line: str) -> None:
        """Shows a person one line."""
        from divmon.loggers.console import say

        say(line)

    def _bar(self, step: int, num_samples: int) -> Any:
        from divmon.loggers.console import progress_bar

        prompts = sum(len(probe.prompts) for probe in self.probes)
        return progress_bar(f"divmon step {step}", prompts * num_samples, shown=self.options.progress)

    def _manifest(self, model: Any) -> dict[str, Any]:
        assert self.asking is not None and self._scorer is not None
        renderer, tokenizer = self.asking.renderer, self.asking.renderer.tokenizer
        return {
            "probes": self.probes,
            "options": self.options.record(),
            "decoding": {name: vars(decoding) for name, decoding in self.asking.decodings.items()},
            "chat": renderer.chat,
            "think": renderer.think and vars(renderer.think),
            "model": getattr(model.config, "_name_or_path", "") or type(model).__name__,
            "tokenizer": getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
            "vocab_size": len(tokenizer),
            "metrics": self._scorer.names,
            "verifiers": {probe.name: str(self.asking.verifier(probe)) for probe in self.probes},
            "encoders": self._scorer.encoders(),
            "versions": versions(),
            "rendered_prompt": self.asking.requests(1)[0].prompt.text,
        }


def versions() -> dict[str, str]:
    """Of everything that decides a number."""
    import torch
    import transformers

    return {"divmon": __version__, "torch": torch.__version__, "transformers": transformers.__version__}


def unwrapped(model: Any) -> Any:
    """The model inside DistributedDataParallel, DataParallel or torch.compile.

    Raises:
        ValueError: it is no causal language model.
    """
    from accelerate.utils import extract_model_from_parallel

    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    config = getattr(inner, "config", None)
    if config is None or not hasattr(inner, "get_input_embeddings") or getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"divmon samples causal language models of transformers (or PEFT around one); got {type(inner).__name__}"
        )
    return inner


def own_loggers(directory: Path, resume_step: int) -> list[Logger]:
    """Where a run without a trainer logs."""
    from divmon.loggers import active_runs, console, tensorboard

    return [tensorboard.tensorboard(directory, resume_step=resume_step), active_runs.active_runs(), console.console()]
