"""The command line: `divmon <command> ...`.

A command is a module with `main(argv) -> int`, the exit code; it is imported when it is called, so that help is quick.
To add one, write the module and put a line into `COMMANDS`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "score": ("divmon.cli.score", "score completions that exist already, from a JSONL file"),
    "rollouts": ("divmon.cli.rollouts", "score the completions that a GRPO or RLOO run logged"),
    "compare": ("divmon.cli.compare", "compare runs: who kept more diversity, from where on, at equal accuracy"),
    "report": ("divmon.cli.report", "a run as one HTML file to look at, with its samples; tables and pictures too"),
    "tasks": ("divmon.cli.tasks", "list the tasks, and try their gold answers on their verifiers"),
    "attach": ("divmon.cli.attach", "run a training program that takes no callbacks, with one"),
    "replay": ("divmon.cli.replay", "train the stages of a published lineage in order, with the monitor on"),
    "watch": ("divmon.cli.watch", "measure checkpoints as a training run writes them"),
    "data": ("divmon.cli.data", "say what a mixture of training data is made of, before training on it"),
    "demo": ("divmon.cli.demo", "train a miniature model on narrow and on broad data and watch its diversity"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; 2 where there is none of that name.

    Where what reads its output has gone (`divmon tasks | head -1`), the command ends without a word, with 141 as a
    shell counts the signal that ends other programs then.
    """
    listing = "\n".join(f"  {name:8}{help}" for name, (_, help) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="divmon",
        description="Watch the output diversity of a language model while it is post-trained.",
        epilog=f"commands:\n{listing}\n\n'divmon COMMAND --help' says more about one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("arguments", nargs="*", default=[], help="those of the command")
    argv = sys.argv[1:] if argv is None else argv
    module, _ = COMMANDS[parser.parse_args(argv[:1]).command]  # the rest unread: argparse would take a -- out of it
    try:
        code = int(importlib.import_module(module).main(argv[1:]))
        sys.stdout.flush()
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushed once more as the interpreter ends
            return 141
        raise  # of another pipe
    return code
