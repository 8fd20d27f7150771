"""Rollouts: the groups of completions that GRPO and RLOO draw to train on, watched without drawing anything."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from divmon.loggers.console import console, line
from divmon.scoring.scorer import Scorer
from divmon.storage.writer import Store
from divmon.training.continuation import stored_reference
from divmon.training.rollouts.batches import Batch, decoding_of, groups_of, opens_reasoning, tokenizer_of
from divmon.training.rollouts.groups import TASK, Draw
from divmon.training.rollouts.scores import GroupScorer
from divmon.training.rollouts.verdicts import GroupJudge, Threshold
from divmon.types import Category, Probe, Prompt, Snapshot
from divmon.undisturbed import undisturbed_rng

logger = logging.getLogger("divmon")

TAPPED = "_calculate_rewards"
"""The trainer's method that sees each generation batch once, in training and in evaluation."""


@dataclass(kw_only=True, eq=False)
class Rollouts:
    """Scores what a GRPOTrainer or RLOOTrainer draws to train on, window by window.

    >>> rollouts = Rollouts(threshold=0.5)                                  # doctest: +SKIP
    >>> rollouts.attach(trainer, "runs/a/_divmon/rollouts")                 # doctest: +SKIP
    >>> snapshot = rollouts.take(step)        # at each logging step        # doctest: +SKIP

    A window is all that was drawn since the last one, each generation batch once, evaluation's never. Completions are
    those of the policy before the step they train.

    """

    threshold: Threshold | None = None
    verifier: Any = None
    allow_unsandboxed_code: bool = False
    """These three as `GroupJudge` takes them."""
    scorer: Scorer | None = None
    """Shared with a monitor, so that its encoder is loaded once; where None, one of `metrics` and `resources`."""
    metrics: str | Iterable[str] = "auto"
    resources: Mapping[str, Any] = field(default_factory=dict)
    """As `Scorer` takes them, by name."""
    min_groups: int = 8
    """That a window has at least: with fewer it goes on to a later logging step, as their interval would say little and
    cost as much."""
    max_groups: int = 64
    """Of a window that are scored and stored, the same prompts where they come again; the others are counted."""
    encoder_share: float | None = 0.03
    """As `GroupScorer` takes it."""
    seed: int = 0
    """Of which prompts are drawn."""
    category: Category = "other"
    """Of the prompts; "code" brings the metrics of programs."""
    max_samples_mb: float = 500.0
    """Of the windows stored, as `Options` has it."""
    say: Callable[[str], None] = logger.warning
    """Shows a person one line."""

    failures: list[str] = field(default_factory=list, init=False)
    """Why batches are missing."""
    probes: list[Probe] = field(default_factory=list, init=False)
    """The prompts of the last window, for loggers."""
    store: Store | None = field(default=None, init=False)
    _trainer: Any = field(default=None, init=False)
    _pending: Batch | None = field(default=None, init=False)
    _scoring: GroupScorer | None = field(default=None, init=False)
    _last: Snapshot | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.min_groups <= self.max_groups or self.max_groups < 2:
            raise ValueError(
                "min_groups, max_groups: expected 1 or more and 2 or more, as a single group has no interval, the first"
                f" no larger than the second; got {self.min_groups} and {self.max_groups}"
            )

    # -- the tap

    def attach(self, trainer: Any, folder: str | Path | None = None, *, resume_step: int = 0) -> None:
        """Begins to watch. On processes other than the main one it does nothing, as they have nothing to tell.

        Args:
            folder: a run directory of its own for the snapshots, `<output_dir>/_divmon/rollouts`; none are kept where
                None.
            resume_step: step of the checkpoint that training goes on from; later windows are dropped.

        Raises:
            ValueError: the trainer draws no groups, or an option does not fit it.
        """
        if not hasattr(trainer, TAPPED) or not hasattr(trainer, "num_generations"):
            raise ValueError(
                f"rollouts are watched in TRL's GRPOTrainer and RLOOTrainer, which draw groups of completions; got"
                f" {type(trainer).__name__}"
            )
        if not trainer.accelerator.is_main_process:
            return
        self.detach()
        self._last = None
        self._draw, self._batches, self._windows = Draw(self.max_groups, self.seed), 0, 0
        with undisturbed_rng():
            self._scoring = self._scorer(trainer)
            if folder is not None:
                store = Store(folder, max_samples_mb=self.max_samples_mb, say=self.say)
                self.store = store.open(self._manifest(trainer), resume_step=resume_step)
                stored_reference(self.store, resume_step, self._scoring.remember)
        self._trainer = trainer
        self._wrap(trainer)

    def detach(self) -> None:
        """Leaves the trainer as it was found, and closes the store."""
        if self._trainer is not None:
            self._safely(self._settle)
            self._safely(self._say_what_came, "what the rollouts showed could not be said")
            if not self._windows and self._draw.seen:
                self.say(
                    f"divmon: no rollouts were scored: {self._draw.seen} groups were generated, and a window needs"
                    f" {self.min_groups} to say something; more steps, or larger batches of prompts, give more"
                )
        trainer, self._trainer, self._pending = self._trainer, None, None
        # Where someone has wrapped the method after us, theirs stays, and ours lets calls through.
        if trainer is not None and vars(trainer).get(TAPPED) is self._tap:
            if self._before is None:
                delattr(trainer, TAPPED)
            else:
                setattr(trainer, TAPPED, self._before)
        if self.store is not None:
            self.store.close()
            self.store = None

    def _say_what_came(self) -> None:
        """The last window against the first, and where all of them lie."""
        if self.store is None or self._last is None:
            return
        steps, at, there = self.store.steps(), self._last.step, self.store.path
        if len(steps) > 1:
            figures = line(self._last).partition(f"step {at}: ")[2]
            self.say(f"divmon: {figures} at step {at}, since the first window of rollouts at step {steps[0]}")
        windows = f"{len(steps)} window{'' if len(steps) == 1 else 's'} of rollouts"
        self.say(f"divmon: {windows} in {there}; the report of the run shows them")

    def _wrap(self, trainer: Any) -> None:
        self._before = vars(trainer).get(TAPPED)
        original = getattr(trainer, TAPPED)
        signature = inspect.signature(original)

        @functools.wraps(original)
        def tapped(*args: Any, **kwargs: Any) -> Any:
            # Evaluation overwrites what the trainer gathered of the last batch, so that is read first.
            self._safely(self._settle)
            rewards = original(*args, **kwargs)
            self._safely(lambda: self._note(signature.bind(*args, **kwargs).arguments, rewards))
            return rewards

        self._tap = tapped
        setattr(trainer, TAPPED, tapped)

    def _note(self, seen: dict[str, Any], rewards: Any) -> None:
        if self._trainer is not None and self._trainer.model.training:
            local = seen["inputs"], seen["prompts"], seen["completions"], seen["completion_ids_list"]
            self._pending = Batch(*local, rewards)

    def _settle(self) -> None:
        """Takes the groups out of the batch that the tap saw last."""
        batch, self._pending = self._pending, None
        if batch is not None:
            for group in groups_of(self._trainer, batch):
                self._draw.add(group)
            self._batches += 1

    def _safely(self, action: Callable[[], Any], what: str = "a batch of rollouts could not be read") -> None:
        """Whatever fails in the tap never reaches training."""
        try:
            action()
        except Exception as error:
            reason = f"{what}: {type(error).__name__}: {error}"
            if reason not in self.failures:
                logger.warning("divmon: %s; training goes on", reason)
                self.failures.append(reason)

    # -- the windows

    def take(self, step: int, **facts: Any) -> Snapshot | None:
        """Scores, compares and stores what was drawn since the last window; None where it is too little for one.

        Args:
            step: of training, at whose end this is; a step that the store has already gives None.
            facts: further provenance, such as `epoch`.

        Raises:
            Exception: scoring failed; the window is lost. One that cannot be stored is given all the same.
        """
        self._safely(self._settle)
        if self._scoring is None or self._draw.seen < self.min_groups:
            return None
        drawn, batches, self._batches = self._draw.take(), self._batches, 0
        self._windows += 1
        if self.store is not None and step in self.store.steps():
            return None
        with undisturbed_rng():  # verifiers and encoders may draw from the generators
            self._scoring.judge.weights = self._trainer.reward_weights.tolist()
            facts = {"batches": batches, **decoding_of(self._trainer), **facts}
            snapshot = self._scoring.snapshot(drawn, step, facts)
            prompts = snapshot.provenance["prompts"].items()
            self.probes = [Probe(TASK, tuple(Prompt(id, text, category=self.category) for id, text in prompts))]
        store = self.store
        if store is not None:
            if store.new_reference:
                store.refer_to(step)
            self._safely(lambda: store.write(snapshot), f"the rollouts of step {step} could not be stored")
        self._last = snapshot
        return snapshot

    # -- what the trainer says of itself

    def _scorer(self, trainer: Any) -> GroupScorer:
        scorer = self.scorer or Scorer(
            self.metrics,
            categories={self.category},
            **{"device": str(trainer.accelerator.device), "vocab_size": len(tokenizer_of(trainer)), "seed": self.seed}
            | dict(self.resources),
        )
        weights = trainer.reward_weights.tolist()
        return GroupScorer(
            scorer,
            GroupJudge(
                trainer.reward_func_names,
                weights,
                threshold=self.threshold,
                verifier=self.verifier,
                allow_unsandboxed_code=self.allow_unsandboxed_code,
                say=self.say,
            ),
            encoder_share=self.encoder_share,
            opens_reasoning=opens_reasoning(trainer),
            category=self.category,
        )

    def _manifest(self, trainer: Any) -> dict[str, Any]:
        assert self._scoring is not None
        return {
            "kind": TASK,
            "trainer": type(trainer).__name__,
            "model": getattr(trainer.model.config, "_name_or_path", ""),
            "num_generations": trainer.num_generations,
            "reward_functions": trainer.reward_func_names,
            "reward_weights": trainer.reward_weights.tolist(),
            "metrics": self._scoring.scorer.names,
            "figures": self._scoring.scorer.figures.record(),
            "encoders": self._scoring.scorer.encoders(),
            "max_groups": self.max_groups,
            "encoder_share": self.encoder_share,
            "seed": self.seed,
            **decoding_of(trainer),
        }


def log_window(rollouts: Rollouts, live: Any, step: int, epoch: float | None) -> None:
    """Scores what was drawn since the last window, where that is enough, and logs it with those of a `LiveRun`."""
    began = time.perf_counter()
    snapshot = rollouts.take(step, epoch=epoch)
    if snapshot is not None:
        # Not a line nor a picture at every logging step; the decomposition's terms are among the changes.
        out = [place for place in live.loggers or [] if not isinstance(place, console)]
        live.show(snapshot.replace(decomposition={}), rollouts.probes, out)
    live.charge(time.perf_counter() - began)


def watch_rollouts(trainer: Any, monitor: Any, step: int) -> Rollouts:
    """The rollouts of a trainer beside a `DiversityMonitor`, with its options and encoder, in a folder of its run's.

    Args:
        step: that training begins or goes on at.

    Raises:
        ValueError: the trainer draws no groups, or an option does not fit it.
    """
    options = monitor.options
    rollouts = Rollouts(
        threshold=options.rollout_threshold,
        verifier=options.verifier,
        allow_unsandboxed_code=options.allow_unsandboxed_code,
        scorer=monitor.scorer,
        seed=options.seed,
        max_samples_mb=options.max_samples_mb,
        say=monitor.say,
    )
    rollouts.attach(trainer, monitor.store.path / "rollouts", resume_step=step)
    return rollouts
