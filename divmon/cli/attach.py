"""`divmon attach`: runs a program as it is, with a DiversityCallback in whatever transformers Trainer trains in it."""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.util
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from divmon.cli.command import Command, command
from divmon.cli.flags import Measured
from divmon.loggers.terminal import show

TRAINER = "transformers.trainer"
LAUNCHERS = ("accelerate", "axolotl", "deepspeed", "torchrun", "trl")
"""Programs that train in processes of their own, which what is patched in this one does not reach."""

_INSIDE = """put divmon inside what it starts:
  accelerate launch -m divmon attach --config divmon.yaml -- -m trl.scripts.sft ...
  torchrun --nproc_per_node 2 -m divmon attach --config divmon.yaml -- train.py ..."""

_EPILOG = """After -- comes the program, as Python would be given it:
  divmon attach --config divmon.yaml -- -m trl.scripts.sft --model_name_or_path ...
  divmon attach --probes gsm8k --divmon_every 50 -- train.py --lr 1e-5
  divmon attach --config divmon.yaml -- llamafactory-cli train recipe.yaml
  accelerate launch -m divmon attach --config divmon.yaml -- -m axolotl.cli.train recipe.yaml

Programs that start others (trl, axolotl, torchrun) are out of reach; put divmon inside, as the last line does.
The exit code is the program's; 2 where the options are wrong, before it is started."""


@dataclass
class Flags(Measured):
    """Watches a training program that takes no callbacks: TRL's command line, Axolotl, LLaMA-Factory."""

    program: list[str] = field(default_factory=list, metadata={"hidden": True})
    """What comes after --."""


class _Split(Command):
    """Ours is what stands before the first `--`; what comes after it is the program's, unread."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:cut])
        ctx.params["program"] = args[cut + 1 :]
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "--", "PROGRAM [ARGUMENT ...]"]


class Refused(ValueError):
    """The options or the program are wrong; nothing was started."""


@command("divmon attach", epilog=_EPILOG, fails=(Refused,), kind=_Split)
def main(given: Flags) -> int:
    """Runs the program after `--`; what it raises, SystemExit included, passes through."""
    try:
        config = given.resolved()
        run = _runner(given.program)
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from error
    with attached(config) as trained:
        try:
            run()
        except SystemExit as end:
            _say_if_none(trained, end.code)
            raise
    _say_if_none(trained, None)
    return 0


@contextlib.contextmanager
def attached(config: Any) -> Iterator[list[str]]:
    """While it lasts, every Trainer that starts to train gets a callback, unless it has one or is of no causal model.

    Training is where all subclasses meet, and where the trainer is complete: callbacks added late, the final model.
    transformers is not imported for it but waited for, as programs set what it and torch read on import
    (HF_HOME, OMP_NUM_THREADS).

    Yields:
        The class names of the trainers that have trained, a list that grows.
    """
    trained: list[str] = []
    undo: list[Callable[[], None]] = []

    def patch(module: Any) -> None:
        original = module.Trainer.train

        @functools.wraps(original)
        def train(self: Any, *args: Any, **kwargs: Any) -> Any:
            trained.append(type(self).__name__)
            _add_callback(self, config)
            return original(self, *args, **kwargs)

        module.Trainer.train = train
        undo.append(lambda: setattr(module.Trainer, "train", original))

    finder = _OnImport(TRAINER, patch)
    if TRAINER in sys.modules:
        patch(sys.modules[TRAINER])
    else:
        sys.meta_path.insert(0, finder)
    try:
        yield trained
    finally:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(finder)
        for action in undo:
            action()


def _add_callback(trainer: Any, config: Any) -> None:
    from divmon.callback import DiversityCallback
    from divmon.loggers import say

    def tell(line: str) -> None:
        if trainer.is_world_process_zero():
            say(f"divmon: {type(trainer).__name__} {line}")

    present = [c for c in trainer.callback_handler.callbacks if isinstance(c, DiversityCallback)]
    if any(getattr(callback, "attached", False) for callback in present):
        return  # it trains again, and is watched already
    if present:
        tell("brings a DiversityCallback of its own; nothing is attached, and the options given here are not used")
    elif not _completes_text(trainer.model):
        tell(f"trains a {type(trainer.model).__name__}, which completes no text; nothing is attached to it")
    else:
        callback = DiversityCallback(config=config)
        callback.attached = True  # type: ignore[attr-defined]
        trainer.add_callback(callback)
        tell("is watched: a DiversityCallback is attached")


def _completes_text(model: Any) -> bool:
    """Whether it is a causal language model of transformers, or PEFT around one: not a reward model, nor T5."""
    can_generate = getattr(model, "can_generate", None)
    return can_generate is not None and can_generate() and not getattr(model.config, "is_encoder_decoder", False)


class _OnImport(importlib.abc.MetaPathFinder):
    """Calls `then(module)` when the module of that name has been imported."""

    def __init__(self, name: str, then: Callable[[Any], None]) -> None:
        self.name, self.then = name, then
        self._asking_others = False

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name or self._asking_others:
            return None
        self._asking_others = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking_others = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                self.then(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _runner(program: Sequence[str]) -> Callable[[], Any]:
    """Runs the program in this process as Python would start it: its `__main__`, `sys.argv` and `sys.path[0]`. Raises
    ValueError: there is none, or it is no Python program."""
    if not program or list(program) == ["-m"]:
        raise ValueError("expected the program after --: -m MODULE, a script, or a Python program on PATH")
    if program[0] == "-m":
        argv, folder = list(program[1:]), os.getcwd()
        run = functools.partial(runpy.run_module, program[1], run_name="__main__", alter_sys=True)
    else:
        script = os.path.abspath(_script(program[0]))
        argv, folder = [script, *program[1:]], os.path.dirname(os.path.realpath(script))
        run = functools.partial(runpy.run_path, script, run_name="__main__")

    def as_started() -> None:
        before, path = sys.argv, list(sys.path)
        sys.argv = argv
        if not sys.flags.safe_path:
            sys.path[0] = folder
        try:
            run()
        finally:
            sys.argv, sys.path[:] = before, path

    return as_started


def _script(name: str) -> str:
    """The file of a script, or of a Python program on PATH."""
    if Path(name).exists():
        return name
    if Path(name).name.startswith("python"):
        raise ValueError(f"leave {name!r} out: after -- comes what Python would be given, a script or -m MODULE")
    if Path(name).name in LAUNCHERS:
        raise ValueError(f"{name!r} trains in processes of its own, which attach does not reach; {_INSIDE}")
    found = shutil.which(name)
    if found is None:
        raise ValueError(f"there is no file and no program {name!r}; expected a script, -m MODULE, or one on PATH")
    try:
        compile(Path(found).read_text(encoding="utf-8"), found, "exec")
    except (SyntaxError, ValueError):
        raise ValueError(f"{found} is not a Python program; {_INSIDE}") from None
    return found


def _say_if_none(trained: list[str], code: Any) -> None:
    if not trained and not code and os.environ.get("RANK", "0") == "0":
        show(f"divmon attach: no transformers Trainer trained in this process. If the program starts others, {_INSIDE}")
