"""The command line as a shell calls it."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import divmon
from divmon.cli import COMMANDS, main
from divmon.cli import replay_checkpoints as published
from divmon.cli.command import argument, command, flag
from divmon.options import RENAMED, Options

ALL = {name: importlib.import_module(module).main for name, (module, _) in COMMANDS.items()}
ALL["replay --checkpoints"] = published.main


def test_the_command_line_starts_without_torch_and_knows_its_commands() -> None:
    probe = (
        "import sys, divmon.cli\n"
        "for argv in (['--help'], ['score', '--help']): assert divmon.cli.main(argv) == 0\n"
        "assert not {'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS) and "--ead-vocab-size" in done.stdout


@pytest.mark.parametrize("name", ALL)
def test_every_flag_and_argument_of_every_command_has_help(name: str) -> None:
    context = click.Context(ALL[name], info_name=name)
    for parameter in ALL[name].get_params(context):
        if getattr(parameter, "hidden", False):
            assert str(parameter.name).removeprefix("divmon_") in RENAMED, "only old names are not shown"
            continue
        record = parameter.get_help_record(context)
        assert record is not None and len(record[1]) > 8, f"{name}: {parameter.name}"
    assert ALL[name].help and len(ALL[name].get_short_help_str()) > 20


def test_a_flag_of_an_option_says_what_the_option_says() -> None:
    flags = {parameter.name: parameter for parameter in ALL["watch"].params}
    assert all(f"divmon_{field.name}" in flags for field in dataclasses.fields(Options))
    assert flags["divmon_every"].help.startswith("Steps between measurements; None or 0 for none but the others")
    assert flags["divmon_every"].help.endswith("[default: 100]")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("scroe", "divmon: no such command 'scroe'; did you mean 'score'?"),
        ("score a.jsonl --metrix ead", "divmon score: no such option '--metrix'; did you mean '--metrics'?"),
        ("score a.jsonl --ead-vocab-size x", "'x' is not a valid integer"),
        ("score a.jsonl --ead-vocab-size 0", "ead_vocab_size: expected a whole number from 1 on, got 0"),
        ("score a.jsonl --nli-sentences few", "expected a whole number from 1 on, got 'few'"),
        ("score", "divmon score: missing argument 'FILE'"),
        ("compare a b --by stp", "'stp' is not one of 'step', 'tokens', 'examples', 'accuracy'"),
        ("compare nowhere nowhere2", "divmon compare: "),
        ("report nowhere", "divmon report: "),
        ("rollouts nowhere", "divmon rollouts: no completions_*.parquet in nowhere"),
        ("rollouts nowhere --threshold x", "expected a number, or name=number[,name=number], got 'x'"),
        ("tasks gsm9k", "divmon tasks: no task named 'gsm9k'"),
        ("data nowhere.jsonl", "divmon data: no file 'nowhere.jsonl'"),
        ("demo --steps 3", "divmon demo: --steps: expected at least 4"),
        ("replay nothing", "divmon replay: "),
        ("replay --checkpoints --models nobody", "divmon replay: "),
        ("watch nowhere --once", "divmon watch: there is no folder 'nowhere'"),
        ("watch nowhere --divmon_every soon", "'--divmon_every': expected a whole number or None, got 'soon'"),
        ("watch nowhere --divmon_sampler lvie", "expected one of auto, live, generate, vllm, got 'lvie'"),
        ("watch nowhere --divmon_at 1 x", "'--divmon_at': expected a list of (a whole number) or None, got '1, x'"),
        ("attach --divmon_at_end perhaps -- a.py", "expected true or false, got 'perhaps'"),
        ("attach", "divmon attach: expected the program after --"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    line: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert says in err and out == ""
    assert len(err.splitlines()) == 1 and "Traceback" not in err


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"divmon {divmon.__version__}\n"
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_flags_are_spelled_as_before() -> None:
    """Several values of one flag, a flag that may stand alone, flags that may be given again, flags with =."""

    def parsed(name: str, line: str) -> dict[str, object]:
        with ALL[name].make_context(name, line.split()) as context:
            return context.params

    assert parsed("watch", "--divmon_at 1 2 3 --once out")["divmon_at"] == [1, 2, 3]
    assert parsed("watch", "out --divmon_at=4")["divmon_at"] == [4]
    assert parsed("watch", "out --divmon_at_end 0 --divmon_every null")["divmon_at_end"] is False
    assert [parsed("compare", f"a b {line}")["rescore"] for line in ("", "--rescore", "--rescore minilm")] == [
        *(None, "", "minilm")
    ]
    assert parsed("compare", "a b --metric sbert,ead")["metric"] == ["sbert", "ead"]
    assert parsed("replay", "think --set a=1 --set b=2 --stage sft,dpo")["set"] == ("a=1", "b=2")
    assert parsed("replay --checkpoints", "--checkpoints --dry-run")["checkpoints"] == "paper"
    assert parsed("replay --checkpoints", "--checkpoints org/name --tasks gsm8k")["checkpoints"] == "org/name"
    attached = parsed("attach", "--divmon_at 1 2 -- train.py --lr 1e-5 -- more")
    assert attached["program"] == ["train.py", "--lr", "1e-5", "--", "more"] and attached["divmon_at"] == [1, 2]


def test_a_shell_completes_commands_and_flags() -> None:
    asked = {"_DIVMON_COMPLETE": "bash_complete", "COMP_WORDS": "divmon score --me", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "divmon"], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == ["plain,--metrics"], done


def test_ctrl_c_is_130() -> None:
    """Of a command at work, and without a traceback."""
    code = "import time\nfrom divmon.cli import tasks, main\ntasks._chosen = lambda names: time.sleep(60)\n"
    code += "print('at work', flush=True)\nraise SystemExit(main(['tasks']))"
    command = [sys.executable, "-c", code]
    # What a shell runs in the background ignores the signal, and so would its children.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=heeds, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "at work\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "divmon: interrupted\n")


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`divmon tasks | head -1`"""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command = [sys.executable, "-m", "divmon", "tasks"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(names: list[str]) -> None:
        raise BrokenPipeError("a worker has gone")

    monkeypatch.setattr("divmon.cli.tasks._chosen", broken)
    with pytest.raises(BrokenPipeError, match="a worker"):
        main(["tasks"])


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIVMON_TRACEBACK", "1")
    with pytest.raises(ValueError, match="gsm9k"):
        main(["tasks", "gsm9k"])


@dataclasses.dataclass
class Example:
    """What it does."""

    files: list[str] = argument("FILE", many=True)
    """What is read."""
    steps: int = flag(3, metavar="N")
    """Of each run."""


def test_a_command_of_ones_own_is_a_dataclass_and_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    @command("divmon example")
    def example(given: Example) -> int:
        seen.append((list(given.files), given.steps))
        return 3

    assert example(["a", "b", "--steps", "5"]) == 3 and seen == [(["a", "b"], 5)]
    assert example(["--help"]) == 0
    assert "Of each run.  [default: 3]" in capsys.readouterr().out
