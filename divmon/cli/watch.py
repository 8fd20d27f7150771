"""`divmon watch OUTPUT_DIR`: the command around `divmon.lineages.watch`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from divmon.cli.flags import add_model_flags, add_options, config_of
from divmon.lineages.watch import Watch, Wrong
from divmon.lineages.watch.checkpoints import Loader
from divmon.lineages.watch.served import ServerCommand

USAGE = 2

_DESCRIPTION = """Measures each checkpoint-N in OUTPUT_DIR as it appears, and stores and draws the same curves as the
callback, in OUTPUT_DIR/_divmon_watch. It may run on another GPU, or on another machine with the file system; training
pays nothing. Started again, it goes on where it stopped. Where training goes back to an earlier checkpoint and writes
later ones anew, they are measured anew."""

_EPILOG = """Checkpoints deleted before they were measured (save_total_limit) leave a gap, which is recorded.

exit code: 0 all is well; 2 wrong usage; 3 some checkpoints could not be measured, each named with its reason; 130 and
143 stopped by SIGINT or SIGTERM: the measurement under way is given up, and made when watch is started again."""


class Stopped(BaseException):
    """A signal asks the process to end; a BaseException, so that it is not taken for a failure."""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(argv)
    try:
        with stopping():
            return _watch(given).run()
    except Wrong as error:
        print(f"divmon watch: {error}", file=sys.stderr)
        return USAGE
    except Stopped as stop:
        (number,) = stop.args
        print(f"divmon watch: stopped by {signal.Signals(number).name}; started again it goes on", file=sys.stderr)
        return 128 + number


def _watch(given: argparse.Namespace) -> Watch:
    """
    Raises:
        Wrong: an option is out of range.
    """
    try:
        config = config_of(given)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="divmon watch",
        usage="divmon watch OUTPUT_DIR [--config FILE] [--probes PROBES] [--<option> VALUE ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("output_dir", type=Path, metavar="OUTPUT_DIR", help="the trainer's")
    add(
        "--reference",
        metavar="MODEL",
        help="measured first, as step 0; else the first checkpoint found is the reference",
    )
    add("--once", action="store_true", help="end when the checkpoints that are there are measured")
    add(
        "--until-end",
        action="store_true",
        help="end when the last checkpoint of the training is measured (at max_steps, or where it was stopped early;"
        " without one, as after a crash, it waits on)",
    )
    add("--poll", type=float, default=30.0, metavar="SECONDS", help="between looks (%(default)g)")
    add("--base", metavar="MODEL", help="the model that training began with, where adapter_config.json names another")
    add("--trust-remote-code", action="store_true", help="run code that comes with a model")
    add_model_flags(parser, tokenizer="in place of the checkpoints' own")
    add_options(parser)
    return parser


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
