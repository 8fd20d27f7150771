"""`divmon sweep`: how much diversity, and how much accuracy, each mixture of a base and a tuned model has.

Each mixture is measured as a step of one run, 1000 alpha, so that reports and comparisons read it. What is measured is
kept: a sweep that is started again goes on. The tuned model at other temperatures, for comparison, has a run of its own
for each, since figures under different decoding are not those of one curve.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from divmon.analysis.candidates import candidates
from divmon.lineages.sweep.interpolation import Interpolation, check_vocabularies, merged
from divmon.lineages.watch.checkpoints import Loader, Unusable
from divmon.scoring.best_point import Choice, NoChoice, Point, Rule, choose, place
from divmon.storage import best
from divmon.storage.reader import FOLDER, Run, list_steps, read_run

PER_ALPHA = 1000
"""Steps of a run from the base to the tuned model."""
COARSE = (0.0, 1.0, 0.5)
NARROWEST = 1 / 32
"""Adaptive points are no closer together: a cliff is located to that."""


class SweepError(Exception):
    """The sweep cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Frontier:
    """What a sweep has found."""

    points: Mapping[float, Point]
    """By alpha."""
    temperatures: Mapping[float, Point]
    """Of the tuned model, by temperature."""
    left_out: Mapping[float, str]
    """Why the figures of an alpha must not be compared."""
    choice: Choice | None
    why_not: str = ""
    """Why nothing was chosen."""

    @property
    def alpha(self) -> float:
        """Of the chosen point."""
        return math.nan if self.choice is None else self.choice.point.step / PER_ALPHA


class Sweep:
    """One sweep, in a folder of its own.

    Args:
        make_monitor: gives a `DiversityMonitor`, not yet prepared, for a temperature or, with None, for that of the
            options.
        loader: loads both models, and their tokenizers.
        metric: the figure of diversity that is drawn and chosen by.
    """

    def __init__(
        self,
        base: str,
        tuned: str,
        out: Path,
        make_monitor: Callable[[float | None], Any],
        loader: Loader,
        *,
        metric: str | None = None,
    ) -> None:
        self.base, self.tuned, self.out, self.loader, self.metric = base, tuned, out, loader, metric
        self.make_monitor = make_monitor
        self.folder = out / FOLDER
        self._models = {"base": base, "base_files": stamp(base), "tuned": tuned, "tuned_files": stamp(tuned)}

    def run(
        self, alphas: Sequence[float] | None, rule: Rule, *, most: int = 9, temperatures: Sequence[float] = ()
    ) -> Frontier:
        """Measures what is not measured yet, chooses, and saves the chosen model.

        Args:
            alphas: to measure, beside 0 and 1; where None, up to `most` in all, where figures change most.

        Raises:
            SweepError: a model cannot be loaded, or the folder holds another sweep.
            Unlike: the two models have no weights in between.
        """
        self._check_folder()
        wanted = None if alphas is None else sorted({0.0, 1.0, *alphas})
        self._measure(wanted, most)
        for temperature in temperatures:
            self._measure_at(temperature)
        found = self.frontier(rule, temperatures)
        if found.choice is not None:
            self._save(found)
        return found

    def frontier(self, rule: Rule, temperatures: Sequence[float] = ()) -> Frontier:
        """What has been measured, and the point that the rule names."""
        points, left_out = self._points(read_run(self.folder))
        at = {t: self._points(read_run(self._at(t)))[0].get(1.0) for t in temperatures}
        heated = {temperature: point for temperature, point in at.items() if point is not None}
        try:
            choice, why_not = choose(list(points.values()), rule), ""
        except NoChoice as reason:
            choice, why_not = None, str(reason)
        return Frontier(points, heated, left_out, choice, why_not)

    def _points(self, run: Run) -> tuple[dict[float, Point], dict[float, str]]:
        points, left_out = candidates(run, self.metric)
        return {p.step / PER_ALPHA: p for p in points}, {step / PER_ALPHA: why for step, why in left_out.items()}

    # -- measuring

    @cached_property
    def models(self) -> Interpolation:
        """Both models, loaded once something is to be measured."""
        base, tuned = (merged(self._loaded(name)) for name in (self.base, self.tuned))
        check_vocabularies(*(self._tokenizer(name).get_vocab() for name in (self.base, self.tuned)))
        return Interpolation(base, tuned)

    def _measure(self, wanted: Sequence[float] | None, most: int) -> None:
        monitor = self.make_monitor(None)
        try:
            while (alpha := self._next(wanted, most)) is not None:
                self._take(monitor, self.folder, alpha)
        finally:
            monitor.close()

    def _next(self, wanted: Sequence[float] | None, most: int) -> float | None:
        done = list_steps(self.folder)
        if 0 not in done:
            return 0.0  # the reference
        if wanted is not None:
            return next((alpha for alpha in wanted if step_of(alpha) not in done), None)
        first = next((alpha for alpha in COARSE if step_of(alpha) not in done), None)
        if first is not None or len(done) >= most:
            return first
        return refine({alpha: place(point) for alpha, point in self._points(read_run(self.folder))[0].items()}, done)

    def _measure_at(self, temperature: float) -> None:
        if step_of(1.0) in list_steps(self._at(temperature)):
            return
        monitor = self.make_monitor(temperature)
        try:
            self._take(monitor, self._at(temperature), 1.0)
        finally:
            monitor.close()

    def _at(self, temperature: float) -> Path:
        return self.out / f"temperature-{temperature:g}" / FOLDER

    def _take(self, monitor: Any, folder: Path, alpha: float) -> None:
        model = self.models.at(alpha)
        opened = monitor.store is not None
        if not opened:
            steps = list_steps(folder)
            last = max(1, *steps) if steps else 0
            monitor.prepare(model, self._tokenizer(self.tuned), output_dir=folder, resume_step=last)
            assert monitor.store is not None
            monitor.store.update(sweep=self._models)
        monitor.take(model, step_of(alpha), {"alpha": alpha})
        monitor.release()

    def _loaded(self, name: str) -> Any:
        try:
            return self.loader.model(name)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise SweepError(f"{name}: cannot be loaded as a causal language model: {first}") from error

    def _tokenizer(self, name: str) -> Any:
        if name == self.tuned and Path(name).is_dir():
            try:
                return self.loader.tokenizer_of(Path(name))
            except Unusable as error:
                raise SweepError(f"{name}: {error}") from error
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(name, trust_remote_code=self.loader.trust_remote_code)
        except (OSError, ValueError) as error:
            raise SweepError(f"{name}: its tokenizer cannot be loaded: {str(error).splitlines()[0]}") from error

    def _check_folder(self) -> None:
        """
        Raises:
            SweepError: it holds a sweep of other models, or a run that is none.
        """
        if not list_steps(self.folder):
            return
        before = read_run(self.folder).manifest.get("sweep")
        if before != self._models:
            was = f"a sweep from {before['base']} to {before['tuned']}" if before else "a run that is no sweep"
            again = " (their files have changed since)" if before and before["tuned"] == self.tuned else ""
            raise SweepError(f"{self.out} holds {was}{again}; give another folder with --out")

    # -- what is chosen

    def _save(self, found: Frontier) -> None:
        """The chosen model with its tokenizer, put in place whole."""
        assert found.choice is not None
        best.recover(self.out, best.MIXTURE)
        new = best.being_written(self.out, best.MIXTURE)
        facts = {"alpha": found.alpha, "why": found.choice.why, "base": self.base, "tuned": self.tuned}
        if best.facts_of(self.out / best.MIXTURE, best.MIXTURE_FACTS).get("alpha") == found.alpha:
            return
        self.models.at(found.alpha).save_pretrained(new)
        self._tokenizer(self.tuned).save_pretrained(new)
        best.put_in_place(self.out, facts, best.MIXTURE, best.MIXTURE_FACTS)


def step_of(alpha: float) -> int:
    """The step of a run at which an alpha is measured."""
    return round(PER_ALPHA * alpha)


def refine(places: Mapping[float, tuple[float, float]], done: Sequence[int] = ()) -> float | None:
    """The alpha to measure next: the middle of the two neighbors between which the figures change most.

    The change is the length of the step in (accuracy, diversity), each in units of its range over all points.

    Args:
        places: (accuracy, diversity) by alpha.
        done: steps measured already, whether or not they may be compared.

    Returns:
        None where no two neighbors are further apart than twice `NARROWEST`.

    >>> refine({0.0: (0.5, 0.2), 0.5: (0.8, 0.0), 1.0: (0.9, 0.0)})
    0.25
    """
    alphas = sorted(places)
    span = [max((max(side) - min(side)), 1e-9) for side in zip(*places.values(), strict=True)]
    best: tuple[float, float] | None = None
    for a, b in itertools.pairwise(alphas):
        middle = step_of((a + b) / 2) / PER_ALPHA  # what is measured, saved and shown is the same number
        if b - a < 2 * NARROWEST or step_of(middle) in done:
            continue
        change = math.hypot(*((y - x) / s for x, y, s in zip(places[a], places[b], span, strict=True)))
        if best is None or change > best[0]:
            best = change, middle
    return best and best[1]


def stamp(name: str) -> str:
    """Of a local model, a hash of the names, sizes and times of its files; "" of a hub id."""
    folder = Path(name)
    if not folder.is_dir():
        return ""
    files = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(folder.iterdir()) if f.is_file()]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]
