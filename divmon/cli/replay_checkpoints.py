"""`divmon replay --checkpoints [paper|REPOSITORY]`: the command around `divmon.lineages.published.measure`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from divmon.cli.command import command, flag
from divmon.cli.flags import Measured, Served, names_of
from divmon.cli.watch import until_stopped
from divmon.lineages.published import catalog
from divmon.lineages.published.catalog import Published
from divmon.lineages.published.hub import CannotBeHad, Hub, HubUnreachable
from divmon.lineages.published.measure import PROTOCOL, Replay, Wrong
from divmon.lineages.watch.checkpoints import Loader
from divmon.lineages.watch.served import ServerCommand
from divmon.loggers.terminal import Table, show
from divmon.training.config import from_text

PAPER = "paper"
ANSWER_TIMEOUT = 4 * 3600.0
"""Seconds for one completion by a server: 32,768 tokens among many others take a while."""

_EPILOG = """examples:
  divmon replay --checkpoints --serve 'vllm serve {checkpoint} --port {port}' --discard
  divmon replay --checkpoints --models 'base,think*' --tasks gsm8k,math_algebra --num-prompts 64 --limits task
  divmon replay --checkpoints allenai/Olmo-3-7B-Think-SFT --branches 'step?0000,main' --out replays

exit code: 0 all is well; 2 wrong usage; 3 some checkpoints could not be had or measured, each named with its reason;
130 and 143 stopped by SIGINT or SIGTERM: the measurement under way is given up, and made when started again."""


@dataclass
class Flags(Served, Measured):
    """Measures published checkpoints in place of training: the paper's 13 (--checkpoints, or --checkpoints paper), or
    all branches of a repository (--checkpoints allenai/Olmo-3-7B-Think-SFT), by the paper's protocol, and lays the
    figures over the paper's, task by task. Started again, it continues with what is not measured yet."""

    checkpoints: str = flag(bare=PAPER, required=True, metavar="[paper|REPOSITORY]")
    """What to measure."""
    models: str = flag("", metavar="NAMES")
    """Of the paper's, with commas, * and ?; '*' adds the 3 -nocot."""
    branches: str = flag("", metavar="GLOBS")
    """Of a repository, with commas, * and ?; all if not told."""
    revision: str = flag("", metavar="NAMES")
    """Branches or commits of a repository, without asking for a list."""
    tasks: str | None = flag(metavar="TASKS")
    """What to ask, as --probes; the paper's tasks if not told."""
    num_prompts: str | None = flag(metavar="N")
    """Prompts of a task; 500, as the paper has it, also asks all 541 of ifeval and 817 of truthfulqa."""
    sampler: str | None = flag(metavar="HOW")
    """auto, live or generate, in this process."""
    limits: Literal["paper", "task"] = "paper"
    """paper: 32,768 new tokens in all; task: each task's own, and 2,048 to reason, as while training."""
    local: Path | None = flag(metavar="DIR")
    """Folder of repositories: DIR/org/name, DIR/org/name@branch."""
    out: str = flag("replays", metavar="DIR")
    """Folder for all replays."""
    discard: bool = False
    """Delete what was downloaded of a checkpoint once it is measured."""
    dry_run: bool = False
    """Print what would be measured, nothing else."""

    def __post_init__(self) -> None:
        short = {"probes": self.tasks, "num_prompts": self.num_prompts, "sampler": self.sampler}
        given = {name: from_text(name, text) for name, text in short.items() if text is not None}
        self.options = given | self.options


@command("divmon replay", epilog=_EPILOG, fails=(Wrong,))
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""

    def work() -> int:
        replay = _replay(given)
        if given.dry_run:
            show(plan(replay.checkpoints))
            return 0
        return replay.run()

    return until_stopped("divmon replay", work)


def plan(checkpoints: Sequence[Published]) -> Table:
    """What would be measured, a line each."""
    rows = [(f"{c.step:,}", c.name, c.checkpoint, c.asked, c.stage, c.lineage or "-") for c in checkpoints]
    return Table(["step", "name", "checkpoint", "asked", "stage", "lineage"], rows, left=range(6))


def _replay(given: Flags) -> Replay:
    """Raises Wrong: an option is out of range, or there is no such checkpoint."""
    if given.local is not None and not given.local.is_dir():
        raise Wrong(f"--local: there is no folder {str(given.local)!r}")
    hub = Hub(given.local)
    limits = ("max_new_tokens", "max_reasoning_tokens") if given.limits == "task" else ()
    try:
        checkpoints = _checkpoints(given, hub)
        config = given.resolved(**{name: value for name, value in PROTOCOL.items() if name not in limits})
        server = None
        if given.serve:
            server = ServerCommand(given.serve, given.serve_model, given.serve_timeout, answer_timeout=ANSWER_TIMEOUT)
        loader = Loader(given.device, given.dtype, None, given.tokenizer, given.trust_remote_code)
        loader.check()
    except (OSError, ValueError, CannotBeHad) as error:
        raise Wrong(str(error)) from None
    folder = Path(given.out) / given.checkpoints.replace("/", "--")
    return Replay(folder, checkpoints, config, hub, loader, server=server, discard=given.discard)


def _checkpoints(given: Flags, hub: Hub) -> list[Published]:
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
        show(f"divmon replay: {error}\n  taken are the branches that are said to be there", file=sys.stderr)
    return catalog.branch_checkpoints(given.checkpoints, there, names_of(given.branches))
