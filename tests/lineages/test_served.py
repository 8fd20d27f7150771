"""A server for each checkpoint: started, drawn from, stopped with its workers; and what is said where it fails."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from support import runs

from divmon.cli import watch as watch_command
from divmon.lineages.watch import served
from divmon.lineages.watch.served import ServerCommand
from divmon.sampling.serving import client
from divmon.storage.reader import read_run

SERVER = """
import json, os, random, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

path, port, mode, pids = sys.argv[1:]
worker = subprocess.Popen(["sleep", "300"])
open(pids, "a").write(f"{os.getpid()} {worker.pid}\\n")
print("no room for the weights", flush=True)
if mode == "ends":
    sys.exit(5)
if mode == "mute":
    time.sleep(300)
began, asked = time.monotonic(), 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        loading = mode == "late" and time.monotonic() < began + 1
        absent = self.path == "/health" and mode == "no-health"
        self.reply(503 if loading else 404 if absent else 200, {"data": [{"id": path}]})

    def do_POST(self):
        global asked
        asked += 1
        if mode == "dies" and asked > 30:
            os._exit(5)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        drawn = random.Random(f"{path} {body['seed']} {body['prompt']}" if body["temperature"] else "")
        text = " ".join(drawn.choices(["red", "green", "blue", "what"], k=min(4, body["max_tokens"])))
        self.reply(200, {"choices": [{"text": text, "finish_reason": "length"}]})

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    runs.sft(folder / "run", max_steps=20, save_strategy="steps", save_steps=10).train()
    (folder / "probes.jsonl").write_text("\n".join(json.dumps(row) for row in runs.PROBES))
    (folder / "divmon.yaml").write_text(
        json.dumps({"probes": str(folder / "probes.jsonl"), **runs.CHEAP, "progress": False})
    )
    (folder / "server.py").write_text(SERVER)
    return folder


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(served, "PAUSE", 0.02)


def watch(trained: Path, tmp_path: Path, serve: str, *words: str) -> int:
    where = ["--divmon_output_dir", str(tmp_path / "seen"), "--config", str(trained / "divmon.yaml")]
    return watch_command.main([str(trained / "run"), "--once", "--poll", "0.05", "--serve", serve, *where, *words])


def command(trained: Path, tmp_path: Path, mode: str) -> str:
    return f"{sys.executable} '{trained}/server.py' {{checkpoint}} {{port}} {mode} '{tmp_path}/pids'"


def all_gone(tmp_path: Path) -> bool:
    """Whether every server and every worker has ended."""
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    for _ in range(50):
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in _state(pid)]
        if not alive:
            return True
        time.sleep(0.1)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.parametrize("mode", ["well", "late", "no-health"])
def test_a_server_for_each_checkpoint(trained: Path, tmp_path: Path, mode: str) -> None:
    assert watch(trained, tmp_path, command(trained, tmp_path, mode)) == 0
    seen = read_run(tmp_path / "seen")
    assert seen.steps == [10, 20]
    assert set(seen.samples.groupby("step").size()) == {16, 8}
    first, second = (set(seen.samples[seen.samples.step == step].text) for step in seen.steps)
    assert first != second
    assert "/v1/completions" in seen.provenance[20]["sampler_reason"]
    assert seen.provenance[20]["sampler"] == "server"
    assert len((tmp_path / "pids").read_text().splitlines()) == 2
    assert all_gone(tmp_path)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("ends", "the server ended with exit code 5; its last words: no room for the weights"),
        ("dies", "the server ended with exit code 5; its last words: no room for the weights"),
        ("mute", "the server did not answer within 1 s; its last words: no room for the weights"),
    ],
)
def test_a_server_that_fails_is_a_failure_of_its_checkpoint(
    trained: Path, tmp_path: Path, mode: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--serve-timeout", "1"] if mode == "mute" else []
    assert watch(trained, tmp_path, command(trained, tmp_path, mode), *words) == 3
    printed = capsys.readouterr().out
    for step in (10, 20):
        assert f"checkpoint-{step} is not among them: RuntimeError: {reason}" in printed
    assert len((tmp_path / "pids").read_text().splitlines()) == 4, "each is tried twice"
    assert all_gone(tmp_path)
    assert watch(trained, tmp_path, command(trained, tmp_path, "well")) == 0, "and measured when it is well"
    assert read_run(tmp_path / "seen").steps == [10, 20]


def test_commands_that_cannot_work() -> None:
    with pytest.raises(ValueError, match=r"lacks \{port\}; expected for example 'vllm serve"):
        ServerCommand("vllm serve {checkpoint}")
    with pytest.raises(ValueError, match="there is no program 'no-such-server'"):
        ServerCommand("no-such-server {checkpoint} {port}")


@pytest.mark.slow
def test_with_transformers_serve(trained: Path, tmp_path: Path) -> None:
    serve = f"{sys.executable} -m transformers.cli.transformers serve {{checkpoint}} --port {{port}}"
    assert watch(trained, tmp_path, f"{serve} --host 127.0.0.1 --device cpu") == 0
    seen = read_run(tmp_path / "seen")
    assert seen.steps == [10, 20]
    assert "fields as transformers takes them" in seen.provenance[20]["sampler_reason"]
    assert len(set(seen.samples.text)) > 20
