"""The list of published checkpoints, and having their files from a folder, a cache, a hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import paper_frames

from divmon.lineages.published import catalog as published
from divmon.lineages.published import paper
from divmon.lineages.published.hub import CannotBeHad, Hub, HubUnreachable

THINK_SFT, THINK = "allenai/Olmo-3-7B-Think-SFT", "allenai/Olmo-3-7B-Think"


def test_the_papers_models_are_those_of_its_tables() -> None:
    assert set(published.SIXTEEN) == set(paper.tables()["model"])
    assert len(published.THIRTEEN) == 13 and [c.step for c in published.PAPER] == list(range(16))
    thirteen = [c for c in published.PAPER if c.name in published.THIRTEEN]
    assert len({c.repository for c in thirteen}) == 13, "one repository each; those without thought are three of them"
    ends = {lineage: [model for _, model in stages] for lineage, stages in paper_frames.LINEAGES.items()}
    for lineage, models in ends.items():
        assert [c.stage for c in published.PAPER if c.lineage == lineage] == models


def test_models_are_chosen_by_name_and_keep_their_place() -> None:
    assert [c.name for c in published.paper_checkpoints()] == published.THIRTEEN
    chosen = published.paper_checkpoints(["think*", "base"])
    assert [(c.step, c.asked) for c in chosen if c.name in ("base", "think", "think-nocot")] == [
        (0, "plain"),
        (3, "think"),
        (15, "no-think"),
    ]
    with pytest.raises(ValueError, match="matches 'thinking'; there are base, think-sft"):
        published.paper_checkpoints(["thinking"])


@pytest.mark.parametrize(
    ("repository", "count", "first", "last"),
    [
        (THINK_SFT, 43, "step1000", "step43000"),
        (THINK, 55, "step_0025", "step_1375"),
        ("allenai/Olmo-3-7B-RL-Zero-Math", 19, "step_100", "step_1900"),
        ("allenai/Olmo-3-7B-RL-Zero-Code", 29, "step_100", "step_2900"),
        ("allenai/Olmo-3-7B-RL-Zero-General", 8, "step_100", "step_800"),
        ("allenai/Olmo-3-7B-RL-Zero-Mix", 19, "step_50", "step_950"),
        ("allenai/Olmo-3.1-7B-RL-Zero-Math", 28, "step_0100", "step_2800"),
    ],
)
def test_branches_that_are_said_to_be_there(repository: str, count: int, first: str, last: str) -> None:
    names = published.expected_branches(repository)
    assert (len(names), names[0], names[-2], names[-1]) == (count + 1, first, last, "main")


def test_branches_by_their_training_step_after_what_training_started_from() -> None:
    names = ["main", "step_0100", "step_0025"]
    start, *found = published.branch_checkpoints(THINK, names)
    assert (start.checkpoint, start.step, start.lineage) == ("allenai/Olmo-3-7B-Think-DPO", 0, None)
    assert [(c.checkpoint, c.step, c.model) for c in found] == [
        (f"{THINK}@step_0025", 25, None),
        (f"{THINK}@step_0100", 100, None),
        (THINK, 101, "think"),
    ]
    assert {c.stage for c in found} == {"think"} and {c.asked for c in [start, *found]} == {"think"}
    only = published.branch_checkpoints(THINK, names, ["main"])
    assert [c.step for c in only] == [0, 101], "keys do not depend on what is chosen"


def test_a_start_that_is_asked_in_another_way_than_in_the_paper_is_not_the_papers() -> None:
    base = published.branch_checkpoints(THINK_SFT, ["main"])[0]
    assert (base.name, base.asked, base.model) == ("base", "think", None)
    assert base.tokenizer == "allenai/Olmo-3-7B-Think-DPO", "base has no template of its own"
    base = published.branch_checkpoints("allenai/Olmo-3-7B-RL-Zero-Mix", ["main"])[0]
    assert (base.asked, base.model, base.tokenizer) == ("plain", "base", published.BASE)


def test_branches_without_steps_are_counted_and_strangers_asked_as_their_tokenizer_says() -> None:
    names = ["stage1-step900", "stage1-step10000", "stage2-step500", "main"]
    found = published.branch_checkpoints("someone/else", names)
    assert [(c.name, c.step) for c in found] == [
        ("stage1-step900", 1),
        ("stage1-step10000", 2),
        ("stage2-step500", 3),
        ("main", 4),
    ]
    assert {(c.asked, c.lineage, c.model, c.stage) for c in found} == {("auto", None, None, "else")}
    assert [c.step for c in published.branch_checkpoints("someone/else", ["step1", "step_1", "main"])] == [1, 2, 3]


# -- a folder


def test_a_folder_of_repositories(tmp_path: Path) -> None:
    for name in (THINK_SFT, f"{THINK_SFT}@step1000", f"{THINK_SFT}@step2000"):
        (tmp_path / name).mkdir(parents=True)
    hub = Hub(tmp_path)
    assert hub.branches(THINK_SFT) == ["step1000", "step2000", "main"]
    assert hub.folder(THINK_SFT, "step1000") == tmp_path / f"{THINK_SFT}@step1000"
    with pytest.raises(CannotBeHad, match=r"there is no .*Think-SFT@step3000"):
        hub.folder(THINK_SFT, "step3000")
    hub.discard(tmp_path / THINK_SFT)
    assert (tmp_path / THINK_SFT).is_dir(), "only what was downloaded is deleted"
    with pytest.raises(HubUnreachable):
        hub.folder(THINK)


def test_no_network_is_one_clear_error(tmp_path: Path) -> None:
    hub = Hub()
    with pytest.raises(HubUnreachable, match=r"the hub cannot be reached \(OfflineMode.*give --local DIR") as first:
        hub.branches(THINK)
    with pytest.raises(HubUnreachable) as second:
        hub.folder(THINK_SFT)
    assert str(first.value) == str(second.value), "asked once"
    with pytest.raises(CannotBeHad, match="no repository id"):
        Hub().branches("not/a/repository")


# -- a hub on this machine, over HTTP


FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"the same again", "x.jinja": b"t"}
COMMITS = {"main": "a" * 40, "step1000": "b" * 40}


class OwnHub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub to list and download a repository."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        repository, _, rest = path.removeprefix("/api/models/").partition("org/model")
        if "/gated" in path:
            return self.reply(403, {"error": "ask"}, {"X-Error-Code": "GatedRepo"})
        if "/broken" in path:
            return self.reply(503, {"error": "down"})
        if repository or "org/model" not in path:
            return self.download(path) if "/resolve/" in path else self.absent()
        if rest == "/refs":
            rows = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in COMMITS.items()]
            return self.reply(200, {"branches": rows, "converts": [], "tags": []})
        if rest.startswith("/revision/"):
            name = rest.removeprefix("/revision/")
            commit = COMMITS.get(name, name if name in COMMITS.values() else None)
            return self.reply(200, {"id": "org/model", "sha": commit}) if commit else self.absent("RevisionNotFound")
        if rest.startswith("/tree/"):
            rows = [{"type": "file", "path": n, "size": len(d), "oid": n.ljust(40, "0")} for n, d in FILES.items()]
            return self.reply(200, rows)
        return self.absent()

    do_HEAD = do_GET

    def download(self, path: str) -> None:
        commit, _, name = path.partition("/resolve/")[2].partition("/")
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": commit}
        self.server.asked.append((self.command, commit[0], name))  # type: ignore[attr-defined]
        self.reply(200, FILES[name], headers)

    def absent(self, code: str = "RepoNotFound") -> None:
        self.reply(404, {"error": "absent"}, {"X-Error-Code": code})

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def own_hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OwnHub)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


PROGRAM = """
from divmon.lineages.published.hub import CannotBeHad, Hub, HubUnreachable

def why(repository, revision="main"):
    try:
        return Hub().folder(repository, revision)
    except HubUnreachable as error:
        return f"unreachable: {error}"
    except CannotBeHad as error:
        return str(error)

hub = Hub()
print(hub.branches("org/model"))
path = hub.folder("org/model", "step1000")
print(path.name, sorted(file.name for file in path.iterdir()))
other = Hub()
print(other.folder("org/model", "b" * 40) == path)
other.discard(path)
print(path.exists())
hub.discard(path)
print(path.exists())
print(why("org/gated"), why("org/absent"), why("org/model", "step7"), why("org/broken"), sep="\\n")
"""


def test_a_hub_over_http(own_hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    where = {"HF_ENDPOINT": f"http://127.0.0.1:{own_hub.server_port}", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, env={**os.environ, **where, **quiet}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    branches, files, cached, after_other, after_own, gated, absent, revision, broken = done.stdout.splitlines()
    assert branches == "['main', 'step1000']"
    assert files == f"{'b' * 40} ['config.json', 'model.safetensors', 'x.jinja']", "not the same weights twice"
    assert {commit for _, commit, _ in own_hub.asked} == {"b"}  # type: ignore[attr-defined]
    assert (cached, after_other, after_own) == ("True", "True", "False"), "only who downloaded it deletes it"
    assert gated == "org/gated is gated: ask for access on its page, then `hf auth login`"
    assert absent.startswith("the hub says of org/absent: 404")
    assert revision.startswith("the hub says of org/model: 404")
    assert broken.startswith("unreachable: the hub cannot be reached")
