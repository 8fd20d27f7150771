"""What a training loop says of itself: before its first step, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from divmon.grading.users_code import called
from divmon.loggers import Logger, close_all


def close_given(loggers: Sequence[Logger]) -> None:
    """Closes loggers of the user's own, each within the limit of its calls."""
    close_all(loggers, called)


@dataclass(frozen=True)
class Host:
    """What a training loop says of itself before its first step."""

    output_dir: str
    """The run directory."""
    max_steps: int = 0
    """Optimizer steps planned; 0 where that is not known."""
    first_step: int = 0
    """Optimizer steps done already, in a training that is resumed."""
    world_size: int = 1
    is_main: bool = True
    rows_per_step: int = 0
    """Rows that this process trains on between two optimizer steps; 0 where that is not known."""
    examples_per_step: int = 0
    """The same of all processes together."""
    train_dataset: Any = None
    eval_dataset: Any = None
    trainer: Any = None
    """A transformers Trainer, where there is one: holds DeepSpeed's engine, vLLM, the reference model."""
    loggers: Sequence[Logger] | None = None
    """Where the scores go; places of the run's own where None."""
    keep_loggers: bool = False
    """Leave them open at the end of the training, for the next one."""


@dataclass
class Signals:
    """What alerts ask of the loop; transformers' `TrainerControl` has the same fields."""

    should_save: bool = False
    should_training_stop: bool = False


@dataclass(frozen=True)
class Moment:
    """Where a training stands."""

    step: int
    """Optimizer steps done."""
    model: Any
    signals: Any = field(default_factory=Signals)
    """`Signals`, or what has their fields."""
    last: bool = False
    """No step comes after this one."""
    logs: bool = False
    """The loop logs its own figures at this step; then rollouts are scored too."""
    epoch: float | None = None
    tokens: int | None = None
    """Seen so far."""
