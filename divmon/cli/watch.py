"""`divmon watch OUTPUT_DIR`: the command around `divmon.lineages.watch`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.cli.command import argument, command, flag
from divmon.cli.flags import Measured, Served
from divmon.lineages.watch import Watch, Wrong
from divmon.lineages.watch.checkpoints import Loader
from divmon.lineages.watch.served import ServerCommand
from divmon.loggers.terminal import show

_EPILOG = """Checkpoints deleted before they were measured (save_total_limit) leave a gap, which is recorded.

exit code: 0 all is well; 2 wrong usage; 3 some checkpoints could not be measured, each named with its reason; 130 and
143 stopped by SIGINT or SIGTERM: the measurement under way is given up, and made when watch is started again."""


class Stopped(BaseException):
    """A signal asks the process to end; a BaseException, so that it is not taken for a failure."""


@dataclass
class Flags(Served, Measured):
    """Measures each checkpoint-N in OUTPUT_DIR as it appears, and stores and draws the same curves as the callback, in
    OUTPUT_DIR/_divmon_watch. It may run on another GPU, or on another machine with the file system; training pays
    nothing. Started again, it continues where it stopped. Where training goes back to an earlier checkpoint and writes
    later ones anew, they are measured anew."""

    output_dir: Path = argument("OUTPUT_DIR")
    """The trainer's."""
    reference: str | None = flag(metavar="MODEL")
    """Measured first, as step 0; else the first checkpoint found is the reference."""
    once: bool = False
    """End when the checkpoints that are there are measured."""
    until_end: bool = False
    """End when the last checkpoint of the training is measured (at max_steps, or where it was stopped early; without
    one, as after a crash, it waits on)."""
    poll: float = flag(30.0, metavar="SECONDS")
    """Between looks into the folder."""
    base: str | None = flag(metavar="MODEL")
    """The model that training began with, where adapter_config.json names another."""


@command("divmon watch", epilog=_EPILOG, fails=(Wrong,))
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    return until_stopped("divmon watch", lambda: _watch(given).run())


def until_stopped(name: str, work: Callable[[], int]) -> int:
    """The exit code of the work, or of the signal that stopped it, which is said."""
    try:
        with stopping():
            return work()
    except Stopped as stop:
        (number,) = stop.args
        show(f"{name}: stopped by {signal.Signals(number).name}; started again it continues", file=sys.stderr)
        return 128 + number


def _watch(given: Flags) -> Watch:
    """Raises Wrong: an option is out of range."""
    try:
        config = given.resolved()
        server = None
        if given.serve:
            server = ServerCommand(given.serve, model=given.serve_model, timeout=given.serve_timeout)
    except (OSError, ValueError) as error:
        raise Wrong(str(error)) from None
    if config.options.reference in ("ref_model", "base"):
        raise Wrong(f"reference: {config.options.reference!r} is a trainer's; --reference MODEL names one here")
    if given.once and not given.output_dir.is_dir():
        raise Wrong(f"there is no folder {str(given.output_dir)!r}")
    if given.poll <= 0:
        raise Wrong(f"--poll: expected seconds above 0, got {given.poll:g}")
    from divmon.monitor import DiversityMonitor

    loader = Loader(given.device, given.dtype, given.base, given.tokenizer, given.trust_remote_code)
    try:
        loader.check()
    except ValueError as error:
        raise Wrong(str(error)) from None
    return Watch(
        given.output_dir,
        lambda: DiversityMonitor(config=config),
        loader,
        server=server,
        reference=given.reference,
        poll=given.poll,
        until="measured" if given.once else "trained" if given.until_end else None,
    )


@contextmanager
def stopping() -> Iterator[None]:
    """Has SIGINT and SIGTERM raise Stopped, wherever the process is."""

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
