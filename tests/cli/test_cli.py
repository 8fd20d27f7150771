"""The command line as a shell calls it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from divmon.cli import COMMANDS, main


def test_the_command_line_starts_without_torch_and_knows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    probe = (
        "import sys, divmon.cli\n"
        "for argv in (['--help'], ['score', '--help']):\n"
        "    try: divmon.cli.main(argv)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS) and "--ead-vocab-size" in done.stdout
    with pytest.raises(SystemExit) as caught:
        main(["scroe"])
    assert caught.value.code == 2 and "choose from" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`divmon tasks | head -1`"""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command = [sys.executable, "-m", "divmon", "tasks"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: list[str]) -> int:
        raise BrokenPipeError("a worker has gone")

    monkeypatch.setattr("divmon.cli.tasks.main", broken)
    with pytest.raises(BrokenPipeError, match="a worker"):
        main(["tasks"])
