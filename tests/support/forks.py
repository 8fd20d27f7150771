"""Python programs in processes of their own, forked from one that has imported what every training imports.

Importing TRL's trainers takes twelve seconds of a core, and some thirty tests start a program that does. A program that
is run here is a process like any other (its own memory, folder, environment and end, by signal too), but for its
imports, which are made. What is about imports, memory or an installed command starts its own interpreter.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = """
import datasets, matplotlib.figure, pandas, scipy.stats, sentence_transformers, torch.utils.tensorboard
from transformers import BertModel, Olmo3ForCausalLM
from trl import DPOTrainer, GRPOTrainer, SFTTrainer
"""


def run(
    arguments: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 280,
    ranks: int = 1,
    meanwhile: Callable[[int], None] = lambda process: None,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run([sys.executable, *arguments], capture_output=True, text=True)`, without the imports' seconds.

    Args:
        arguments: `[file, ...]`, `["-m", module, ...]` or `["-c", code, ...]`, as behind `python`.
        ranks: so many processes of one group, told by the variables that torchrun sets.
        meanwhile: called with its process id once it runs.

    Returns:
        What was printed, and the first return code that is not 0 (negative: the signal that ended it).

    Raises:
        subprocess.TimeoutExpired: it was still running after `timeout` seconds, and was killed.
    """
    variables = dict(os.environ if env is None else env)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        asked = {
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd or Path.cwd()),
            "out": str(out),
            "err": str(err),
        }
        programs = [asked | {"env": variables | named} for named in _group(ranks)]
        codes = _ask(programs, timeout, meanwhile)
        seen = [path.read_bytes().decode("utf-8", errors="replace") for path in (out, err)]
    return subprocess.CompletedProcess(list(arguments), next(filter(None, codes), 0), *seen)


def _group(ranks: int) -> list[dict[str, str]]:
    if ranks == 1:
        return [{}]
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


@functools.cache
def _server() -> subprocess.Popen[bytes]:
    """One for each process of pytest; it ends when that closes its input."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # Unbuffered: select() must not wait for a line that was read already.
    return subprocess.Popen(
        [sys.executable, __file__], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
    )


def _ask(programs: list[dict[str, Any]], timeout: float, meanwhile: Callable[[int], None]) -> list[int]:
    import select

    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(programs).encode() + b"\n")
    started = json.loads(server.stdout.readline())
    meanwhile(started[0])
    late = not select.select([server.stdout], [], [], timeout)[0]
    if late:
        for process in started:
            os.killpg(process, signal.SIGKILL)
    codes = json.loads(server.stdout.readline())
    if late:
        raise subprocess.TimeoutExpired(programs[0]["arguments"], timeout)
    return codes


def _serve() -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_DATASETS_CACHE"] = cache  # read when datasets is imported, so it is that of every program
        exec(IMPORTED, {})
        answers = os.fdopen(os.dup(1), "w")
        for line in sys.stdin:
            started = [os.fork() or _become(program) for program in json.loads(line)]
            print(json.dumps(started), file=answers, flush=True)
            ended = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]
            print(json.dumps(ended), file=answers, flush=True)


def _become(program: dict[str, Any]) -> Any:
    """Goes on as that program and ends with it: as the interpreter begins, runs and ends one."""
    import atexit
    import runpy
    import threading
    import traceback
    import types

    os.setpgid(0, 0)
    code: Any = 1
    try:
        _redirect(program)
        first, *rest = program["arguments"]
        if first == "-c":
            sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        elif first == "-m":
            sys.argv, sys.path[0] = rest, program["cwd"]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = [first, *rest], str(Path(first).resolve().parent)
            runpy.run_path(first, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _redirect(program: dict[str, Any]) -> None:
    import numpy

    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, path in ((1, program["out"]), (2, program["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(program["env"])
    time.tzset()
    os.chdir(program["cwd"])
    named = [path for path in program["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[1:] = [*named, *(path for path in sys.path[1:] if path not in named)]
    numpy.random.seed()


if __name__ == "__main__":
    _serve()
