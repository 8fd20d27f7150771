"""The command line: `divmon <command> ...`.

A command is a module with `main(argv) -> int`, the exit code, made by `divmon.cli.command`; it is imported when it is
called, so that help is quick. To add one, write the module and put a line into `COMMANDS`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

import click

from divmon import __version__
from divmon.cli.command import SHOWN, Command, run

COMMANDS = {
    "score": ("divmon.cli.score", "score completions that exist already, from a file"),
    "rollouts": ("divmon.cli.rollouts", "score the completions that a GRPO or RLOO run logged"),
    "compare": ("divmon.cli.compare", "compare runs: who kept more diversity, where they diverge, at equal accuracy"),
    "report": ("divmon.cli.report", "write a run as one HTML file, with its completions; tables and pictures too"),
    "select": ("divmon.cli.select", "print the path of the checkpoint that lost least diversity at the best accuracy"),
    "tasks": ("divmon.cli.tasks", "list the tasks, and try their reference answers on their verifiers"),
    "attach": ("divmon.cli.attach", "run a training program that takes no callbacks, with one"),
    "replay": ("divmon.cli.replay", "train the stages of a published lineage in order, with the monitor on"),
    "watch": ("divmon.cli.watch", "measure checkpoints as a training run writes them"),
    "sweep": ("divmon.cli.sweep", "measure the models between a base and a tuned one, and save the best of them"),
    "data": ("divmon.cli.data", "describe a mixture of training data before training on it"),
    "demo": ("divmon.cli.demo", "train a miniature model on narrow and on broad data and watch its diversity"),
}
COMPLETE = "_DIVMON_COMPLETE"
"""Set by a shell that asks for completions; https://click.palletsprojects.com/shell-completion"""

_EPILOG = """'divmon COMMAND --help' says more about one.

Completion of commands and flags in the shell:
  bash   eval "$(_DIVMON_COMPLETE=bash_source divmon)"      in ~/.bashrc
  zsh    eval "$(_DIVMON_COMPLETE=zsh_source divmon)"       in ~/.zshrc
  fish   _DIVMON_COMPLETE=fish_source divmon | source       in ~/.config/fish/completions/divmon.fish

exit code: 0 all is well; 2 wrong input, with one line that says what; 3 a part was left out, each named with its
reason; 130 interrupted. The help of a command names others that it has."""


class _Commands(click.Group):
    """The commands by name, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> Command | None:
        return importlib.import_module(COMMANDS[name][0]).main if name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if name == "replay" and any(word.partition("=")[0] == "--checkpoints" for word in rest):
            from divmon.cli import replay_checkpoints

            command = replay_checkpoints.main
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{_EPILOG}\n")


_divmon = click.version_option(__version__, prog_name="divmon", message="%(prog)s %(version)s")(
    _Commands(
        "divmon",
        help="Watch the output diversity of a language model during post-training.",
        no_args_is_help=True,
        context_settings={"max_content_width": SHOWN, "help_option_names": ["-h", "--help"]},
    )
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(_divmon, {}, "divmon", COMPLETE, instruction)
    return run(_divmon, argv, "divmon")
