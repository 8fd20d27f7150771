"""DiversityMonitor: the whole measurement without a trainer, for plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from divmon.loggers import Logger
from divmon.sampling import Engine
from divmon.training.config import OptionsDict, given_options
from divmon.training.live_run import LiveRun
from divmon.types import Snapshot


class DiversityMonitor(LiveRun):
    """Samples, scores, stores and logs on request.

    With several processes every one of them calls `measure`; each samples a share of the prompts, and the main one
    scores, stores and logs. When to measure is the loop's own affair: `divmon.training.training_run.TrainingRun` has a
    schedule, a budget, and the promise never to end a run.

    >>> monitor = DiversityMonitor("gsm8k", output_dir="runs/a/_divmon")      # doctest: +SKIP
    >>> snapshot = monitor.measure(model, tokenizer, step=100)                # doctest: +SKIP

    Args:
        probes: what to ask; every form of `divmon.prompts.probes.resolve`.
        config: the options as a `DiversityConfig`.
        loggers: where the scores go; TensorBoard, active global runs and the console where not given. TensorBoard's
            files are in `runs/divmon` beside an output_dir that is called `_divmon`, and within any other.
        engine: samples in place of a model in this process: a server, stored samples (`divmon.sampling.engines`).
        options: by keyword, see `divmon.options.Options`; `every`, `at` and the like mean nothing here.

    Raises:
        TypeError, ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        probes: Any = None,
        *,
        config: Any = None,
        loggers: Sequence[Logger] | None = None,
        engine: Engine | None = None,
        **options: Unpack[OptionsDict],
    ) -> None:
        super().__init__(given_options(config, options, probes), loggers=loggers, engine=engine)

    def measure(self, model: Any, tokenizer: Any = None, step: int = 0, **facts: Any) -> Snapshot | None:
        """Measures once and returns the snapshot, stored and logged. The model is left as it was.

        Args:
            model: a causal language model of transformers, also inside PEFT, DistributedDataParallel or FSDP; None
                where an engine draws.
            tokenizer: its tokenizer (or processor); kept from the first call on.
            step: of training; each step once.
            facts: further provenance, such as `epoch` or `tokens`.

        Returns:
            The snapshot; None in processes other than the main one.

        Raises:
            ValueError: at the first call, an option does not fit the model, the tokenizer or the data.
            Disconnected: another process did not come.
        """
        if not self._prepared:
            self.prepare(model, tokenizer, output_dir=self.options.output_dir or "divmon", resume_step=step)
        if self.processes.tell(self.store is not None and step in self.store.steps()):
            raise ValueError(f"step {step} is already measured; give each measurement its own step")
        snapshot = self.take(model, step, facts)
        with self.guarded():
            self.alarms.act()
        return snapshot
