"""The command line: `divmon <command> ...`.

A command is a module with `main(argv) -> int`, the exit code; it is imported when it is called, so that help is quick.
To add one, write the module and put a line into `COMMANDS`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "score": ("divmon.score_file", "score completions that exist already, from a JSONL file"),
    "tasks": ("divmon.tasks_command", "list the tasks, and try their gold answers on their verifiers"),
    "demo": ("divmon.demo", "train a miniature model on narrow and on broad data and watch its diversity"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; 2 where there is none of that name."""
    listing = "\n".join(f"  {name:8}{help}" for name, (_, help) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="divmon",
        description="Watch the output diversity of a language model while it is post-trained.",
        epilog=f"commands:\n{listing}\n\n'divmon COMMAND --help' says more about one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of the command")
    given = parser.parse_args(sys.argv[1:] if argv is None else argv)
    module, _ = COMMANDS[given.command]
    return int(importlib.import_module(module).main(given.arguments))
