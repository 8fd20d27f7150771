"""The likelihood of stored completions: the reference's under the model now, and those of now under the reference."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from divmon.sampling import Drawing, Engine, Key, Request
from divmon.sampling.engines import Lockstep
from divmon.sampling.likelihood import Row, text_nll
from divmon.storage.writer import Store
from divmon.training.distributed import Disconnected, Processes
from divmon.training.sharded_models import unwrapped
from divmon.types import Sample, Snapshot

logger = logging.getLogger("divmon")

Rows = list[tuple[Key, Row]]
WHAT = "the likelihood of stored completions"
SAME = 1e-3
"""Nats per token that two forwards of the same weights may lie apart."""


class StoredTexts:
    """Scores texts with a share of them in each process; what is scored, and what comes of it, is the main one's.

    Args:
        rows: gives the completions of a prompt as token ids.
        around: gives, of a model as the trainer has it, what to be inside of to call it.
        together: where processes share the model's parameters.
        candidate: gives, of the model, what may be the reference model (the trainer's, or without its adapter); None
            where there is none. Whether it is is tried on the reference's own completions.
    """

    def __init__(
        self,
        rows: Callable[[Request, Sequence[Sample]], list[Row]],
        processes: Processes,
        around: Callable[[Any], AbstractContextManager[None]],
        together: Lockstep | None = None,
        candidate: Callable[[Any], AbstractContextManager[Any]] | None = None,
    ) -> None:
        self._rows, self.processes, self._around, self._together = rows, processes, around, together
        self._candidate = candidate
        self._at_hand: bool | None = None
        """Whether the candidate is the reference model; None until that was tried."""
        self._reference: Rows = []
        self._fresh: Rows | None = None
        self.baseline: dict[Key, float] = {}
        """Nats per token of the reference's completions under the reference, by prompt."""
        self.cost = 0.0
        """Seconds that the reference's completions took last."""
        self._failures: dict[str, None] = {}
        self.failing = False
        """Whether something failed the last time; known in the main process."""

    def record_failures(self, store: Store, step: int) -> None:
        """Adds what failed since the last call to the run's failures; in the main process."""
        self.failing = bool(self._failures)
        for reason in self._failures:
            with contextlib.suppress(OSError):  # a full disk: it was said, and the measurement has still to be stored
                store.append("failures", {"step": step, "reason": reason, "what": WHAT})
        self._failures = {}

    def _failed(self, error: Exception) -> str:
        reason = f"{type(error).__name__}: {error}"
        logger.warning("divmon: %s is left out: %s", WHAT, reason)
        return reason

    def remember(self, requests: Sequence[Request], reference: Snapshot) -> None:
        """Takes a stored snapshot as the reference; in the main process."""
        self._fresh, self.baseline = self._all_rows(requests, reference.samples), {}
        for score in reference.scores:
            ids = [request.prompt.id for request in requests if request.prompt.task == score.task]
            if score.metric == "reference_nll" and len(ids) == len(score.values):
                self.baseline |= {(score.task, id): nll for id, nll in zip(ids, score.values, strict=True)}

    def of_reference(self, model: Any) -> dict[Key, float]:
        """Nats per token of the reference's completions under this model, by prompt; every process must call it."""
        began = time.perf_counter()
        fresh, self._fresh = self.processes.tell(self._fresh), None
        self._reference = self._reference if fresh is None else fresh
        found = self._nll(model, self._reference)
        self.cost = time.perf_counter() - began
        return found

    def of_look(self, model: Any, requests: Sequence[Request], drawing: Drawing, is_reference: bool) -> None:
        """Fills in `drawing.stored_nll`; every process must call it after the same draw."""
        if is_reference:
            began, own = time.perf_counter(), self._told(requests, drawing)
            now = self._nll(model, own)
            self._reference, self.baseline, self.cost = own, now, time.perf_counter() - began
            drawing.stored_nll = {key: (nll, nll, nll, nll) for key, nll in now.items()}
            return
        lost, now, before = self.of_reference(model), {}, {}
        if self._candidate is not None and self._at_hand is not False:
            own = self._told(requests, drawing)
            with self._candidate(model) as candidate:
                if self._is_reference(candidate):
                    before = self._nll(candidate, own)
            if self._at_hand:  # without the reference's there is nothing to set it against
                now = self._nll(model, own)

        def of(nll: Mapping[Key, float], key: Key) -> float:
            return nll.get(key, math.nan)

        keys = [request.key for request in requests]
        drawing.stored_nll = {k: (of(lost, k), of(self.baseline, k), of(now, k), of(before, k)) for k in keys}

    def _told(self, requests: Sequence[Request], drawing: Drawing) -> Rows:
        """The rows of what the main process has drawn, in all."""
        return self.processes.tell(self._all_rows(requests, drawing.samples) if self.processes.is_main else [])

    def _is_reference(self, candidate: Any) -> bool:
        """Whether it says of the reference's completions what the reference said; tried once."""
        if self._at_hand is None:
            found = self._nll(candidate, self._reference)
            same = [abs(nll - self.baseline.get(key, math.nan)) < SAME for key, nll in found.items()]
            self._at_hand = self.processes.tell(bool(same) and all(same))
        return self._at_hand

    def _all_rows(self, requests: Sequence[Request], samples: Sequence[Sample]) -> Rows:
        drawn: dict[Key, list[Sample]] = {}
        for sample in samples:
            drawn.setdefault((sample.task, sample.prompt_id), []).append(sample)
        try:
            return [(r.key, row) for r in requests for row in self._rows(r, drawn.get(r.key, []))]
        except Exception as error:  # a tokenizer's; the other processes wait for the rows
            self._failures[self._failed(error)] = None
            return []

    def _nll(self, model: Any, rows: Rows) -> dict[Key, float]:
        """Nats per token by prompt, in the main process; what fails in a process is missing."""
        share, failed = rows[self.processes.rank :: self.processes.count], ""
        try:
            with self._around(model):
                sums = text_nll(unwrapped(model), [row for _, row in share], self._together)
        except Disconnected:
            raise
        except Exception as error:
            failed, sums = self._failed(error), [math.nan] * len(share)
        totals: dict[Key, tuple[float, int]] = {}
        own = [(k, nll, len(row[1])) for (k, row), nll in zip(share, sums, strict=True)]
        for part, why in self.processes.gather((own, failed)):
            self._failures |= {why: None} if why else {}
            for key, nll, tokens in part:
                before, count = totals.get(key, (0.0, 0))
                if not math.isnan(nll):
                    totals[key] = before + nll, count + tokens
        return {key: nll / tokens for key, (nll, tokens) in totals.items()}


class WithStoredTexts:
    """An engine that draws, and then has stored texts scored by the same model; every process must call it."""

    def __init__(self, engine: Engine, texts: StoredTexts, model: Any, is_reference: bool) -> None:
        self.engine, self.texts, self.model, self.is_reference = engine, texts, model, is_reference

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def reason(self) -> str:
        return self.engine.reason

    def draw(
        self, requests: Sequence[Request], *, seed: int, step: int, progress: Any = lambda samples: None
    ) -> Drawing:
        """As the engine, with `stored_nll`."""
        drawing = self.engine.draw(requests, seed=seed, step=step, progress=progress)
        self.texts.of_look(self.model, requests, drawing, self.is_reference)
        return drawing
