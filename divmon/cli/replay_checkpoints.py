"""`divmon replay --checkpoints [paper|REPOSITORY]`: the command around `divmon.lineages.published.measure`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from divmon.cli.flags import add_model_flags, add_options, config_of, names_of
from divmon.cli.watch import Stopped, stopping
from divmon.lineages.published import catalog
from divmon.lineages.published.catalog import Published
from divmon.lineages.published.hub import CannotBeHad, Hub, HubUnreachable
from divmon.lineages.published.measure import PROTOCOL, Replay, Wrong
from divmon.lineages.watch.checkpoints import Loader
from divmon.lineages.watch.served import ServerCommand

USAGE = 2
PAPER = "paper"
ANSWER_TIMEOUT = 4 * 3600.0
"""Seconds for one completion by a server: 32,768 tokens among many others take a while."""

_DESCRIPTION = """Measures published checkpoints in place of training: the paper's 13 (--checkpoints, or --checkpoints
paper), or all branches of a repository (--checkpoints allenai/Olmo-3-7B-Think-SFT), by the paper's protocol, and lays
the figures over the paper's, task by task. Started again, it goes on with what is not measured yet."""

_EPILOG = """examples:
  divmon replay --checkpoints --serve 'vllm serve {checkpoint} --port {port}' --discard
  divmon replay --checkpoints --models 'base,think*' --tasks gsm8k,math_algebra --num-prompts 64 --limits task
  divmon replay --checkpoints allenai/Olmo-3-7B-Think-SFT --branches 'step?0000,main' --out replays

exit code: 0 all is well; 2 wrong usage; 3 some checkpoints could not be had or measured, each named with its reason;
130 and 143 stopped by SIGINT or SIGTERM: the measurement under way is given up, and made when started again."""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(argv)
    try:
        with stopping():
            replay = _replay(given)
            if given.dry_run:
                print(plan(replay.checkpoints))
                return 0
            return replay.run()
    except Wrong as error:
        print(f"divmon replay: {error}", file=sys.stderr)
        return USAGE
    except Stopped as stop:
        (number,) = stop.args
        print(f"divmon replay: stopped by {signal.Signals(number).name}; started again it goes on", file=sys.stderr)
        return 128 + number


def plan(checkpoints: Sequence[Published]) -> str:
    """What would be measured, a line each."""
    rows = [("step", "name", "checkpoint", "asked", "stage", "lineage")]
    rows += [(f"{c.step:,}", c.name, c.checkpoint, c.asked, c.stage, c.lineage or "-") for c in checkpoints]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _replay(given: argparse.Namespace) -> Replay:
    """
    Raises:
        Wrong: an option is out of range, or there is no such checkpoint.
    """
    if given.local is not None and not given.local.is_dir():
        raise Wrong(f"--local: there is no folder {str(given.local)!r}")
    hub = Hub(given.local)
    limits = ("max_new_tokens", "max_reasoning_tokens") if given.limits == "task" else ()
    try:
        checkpoints = _checkpoints(given, hub)
        config = config_of(given, **{name: value for name, value in PROTOCOL.items() if name not in limits})
        server = None
        if given.serve:
            server = ServerCommand(given.serve, given.serve_model, given.serve_timeout, answer_timeout=ANSWER_TIMEOUT)
        loader = Loader(given.device, given.dtype, tokenizer=given.tokenizer)
        loader.check()
    except (OSError, ValueError, CannotBeHad) as error:
        raise Wrong(str(error)) from None
    folder = Path(given.out) / given.checkpoints.replace("/", "--")
    return Replay(folder, checkpoints, config, hub, loader, server=server, discard=given.discard)


def _checkpoints(given: argparse.Namespace, hub: Hub) -> list[Published]:
    if given.checkpoints == PAPER:
        if given.branches or given.revision:
            raise Wrong("--branches and --revision are of one repository: --checkpoints REPOSITORY; here --models")
        return catalog.paper_checkpoints(names_of(given.models))
    if given.models:
        raise Wrong("--models is of the paper's; of a repository's branches choose with --branches")
    if given.revision:
        return catalog.branch_checkpoints(given.checkpoints, names_of(given.revision))
    try:
        there = hub.branches(given.checkpoints)
    except HubUnreachable as error:
        there = catalog.expected_branches(given.checkpoints)
        print(f"divmon replay: {error}\n  taken are the branches that are said to be there", file=sys.stderr)
    return catalog.branch_checkpoints(given.checkpoints, there, names_of(given.branches))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="divmon replay",
        usage="divmon replay --checkpoints [paper|REPOSITORY] [--tasks TASKS] [--<option> VALUE ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoints", nargs="?", const=PAPER, required=True, metavar="paper|REPOSITORY", help="what to measure")
    add("--models", default="", metavar="NAMES", help="of the paper's, by comma, with * and ?; '*' adds the 3 -nocot")
    add("--branches", default="", metavar="GLOBS", help="of a repository, by comma, with * and ?; all if not told")
    add(
        "--revision", default="", metavar="NAMES", help="branches or commits of a repository, without asking for a list"
    )
    add(
        "--tasks",
        dest="divmon_probes",
        default=argparse.SUPPRESS,
        metavar="TASKS",
        help="what to ask, as --probes (paper)",
    )
    add("--num-prompts", dest="divmon_num_prompts", type=int, default=argparse.SUPPRESS, metavar="N", help="a task's"
        " prompts; 500, as the paper has it, also asks all 541 of ifeval and 817 of truthfulqa")  # fmt: skip
    add(
        "--sampler",
        dest="divmon_sampler",
        default=argparse.SUPPRESS,
        metavar="HOW",
        help="auto, live or generate, in this process",
    )
    add(
        "--limits",
        choices=("paper", "task"),
        default="paper",
        help="paper: 32,768 new tokens in all; task: each task's own, and 2,048 to reason, as while training"
        " (%(default)s)",
    )
    add("--local", type=Path, metavar="DIR", help="folder of repositories: DIR/org/name, DIR/org/name@branch")
    add("--out", default="replays", help="folder for all replays (%(default)s)")
    add("--discard", action="store_true", help="delete what was downloaded of a checkpoint once it is measured")
    add("--dry-run", action="store_true", help="print what would be measured, nothing else")
    add_model_flags(parser, tokenizer="for all, in place of the checkpoints' own")
    add_options(parser)
    return parser
