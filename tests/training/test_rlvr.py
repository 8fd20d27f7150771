"""Rewards of rows that name their own rule: mathematics, programs, constraints, and a judge at a real endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from divmon.training.rewards import rlvr
from divmon.training.rewards.endpoint import scores_of


def test_each_rule_takes_its_own_rows_of_a_mixed_set() -> None:
    columns = {
        "prompts": ["1 + 1?", "no commas", "1 + 2?"],
        "completions": ["#### 2", "one, two", "#### 4"],
        "ground_truth": [["2"], '[{"instruction_id": ["punctuation:no_comma"], "kwargs": [null]}]', "3"],
        "dataset": [["math"], ["ifeval"], "math"],
    }
    assert rlvr.function("math")(**columns) == [1.0, None, 0.0]
    assert rlvr.function("constraints")(**columns) == [None, 0.0, None]


def test_constraints_give_the_share_that_is_met_of_those_known() -> None:
    block = {"instruction_id": ["punctuation:no_comma", "change_case:english_lowercase", "count:unheard_of"]}
    truths = [str([block | {"kwargs": [None, None, None]}]), json.dumps([block]), "[]"]
    given = rlvr.constraints(["no commas here", "ONE, TWO", "x"], truths, ["?"] * 3)
    assert given == [1.0, 0.0, None]
    half = rlvr.constraints(
        ["one, two"], [{"instruction_id_list": block["instruction_id"][:2], "kwargs": [{}, {}]}], ["?"]
    )
    assert half == [0.5]


def test_reasoning_is_taken_off_and_a_cut_one_has_no_reward() -> None:
    given = rlvr.function("math")(
        prompts=["?", "?"], completions=["<think>#### 9</think>#### 2", "<think>#### 2"], ground_truth=["2", "2"]
    )
    assert given == [1.0, None]


def test_without_a_ground_truth_the_error_says_so() -> None:
    with pytest.raises(ValueError, match="needs a column 'ground_truth'; there are answer"):
        rlvr.function("math")(prompts=["?"], completions=["2"], answer=["2"])


def test_functions_by_name_file_and_mistake(tmp_path: Path) -> None:
    assert rlvr.function("math_answer").__name__ == "math_answer"
    (tmp_path / "mine.py").write_text("def half(completions, by=2, **_):\n    return [1 / by for _ in completions]\n")
    mine = rlvr.function(f"{tmp_path / 'mine.py'}:half", {"by": 4})
    assert mine.__name__ == "half" and mine(completions=["a"]) == [0.25]
    with pytest.raises(ValueError, match="no reward function named 'mth'; there are math, code, constraints, judge, "):
        rlvr.function("mth")
    with pytest.raises(TypeError, match="'code' has no argument 'thresold'; it takes threshold"):
        rlvr.function("code", {"thresold": 1})


def test_what_cannot_be_graded_is_wrong_by_option(caplog: pytest.LogCaptureFixture) -> None:
    columns = {"prompts": ["?"] * 2, "completions": ["<think>#### 2", "#### 2"], "ground_truth": ["2", "2"]}
    assert rlvr.function("math")(**columns) == [None, 1.0]
    assert rlvr.function("math", {"ungradable": 0.0})(**columns) == [0.0, 1.0]
    unheard_of = [{"instruction_id": ["punctuation:no_comma", "count:unheard_of"], "kwargs": [None, None]}]
    assert rlvr.constraints(["no commas"], [unheard_of], ["?"]) == [1.0]
    assert rlvr.constraints(["no commas"], [unheard_of], ["?"], ungradable=0.0) == [0.5]
    assert "constraints could not grade 1 of 2" in caplog.text


class TestCode:
    """Programs run for real, in the sandbox where there is one."""

    @pytest.fixture(autouse=True)
    def allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIVMON_ALLOW_UNSANDBOXED_CODE", "1")

    def test_asserts_give_the_share_passed_and_a_threshold_all_or_nothing(self) -> None:
        program = "```python\ndef double(x):\n    return 2 * x if x < 5 else 0\n```"
        truth = json.dumps(["assert double(1) == 2", "assert double(2) == 4", "assert double(9) == 18"])
        assert rlvr.code([program], [truth], ["?"]) == [pytest.approx(2 / 3)]
        assert rlvr.code([program, "no program"], [truth] * 2, ["?"] * 2, threshold=0.99) == [0.0, 0.0]

    def test_programs_that_read_stdin(self) -> None:
        program = "```python\nimport sys\nn = int(input())\nprint(sum(map(int, sys.stdin.read().split())) * n)\n```"
        truth = [{"input": "2\n3 4\n", "output": "14\n"}, {"input": "1\n5\n", "output": "6"}]
        assert rlvr.code([program], [truth], ["?"]) == [0.5]

    def test_a_program_cannot_pass_by_ending_the_process(self) -> None:
        leaves = "```python\ndef double(x):\n    raise SystemExit(0)\n```"
        exits = "```python\nraise SystemExit(0)\n```"
        assert rlvr.code([leaves], [["assert double(1) == 2"]], ["?"]) == [0.0]
        assert rlvr.code([exits], [[{"input": "", "output": "1"}]], ["?"]) == [0.0]


class _Judge(BaseHTTPRequestHandler):
    """Answers as a server of chat completions does."""

    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        said = body["messages"][0]["content"]
        if "busy" in said and sum("busy" in b["messages"][0]["content"] for b in self.asked) == 1:
            self.send_error(503)
            return
        score = '{"score": 8}' if "good" in said else '{"score": 42}' if "odd" in said else "I would rather not"
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": f"Well: {score}"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def judge() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    _Judge.asked.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_a_judge_scores_what_it_can_and_is_asked_again_when_busy(judge: str) -> None:
    function = rlvr.function("judge", {"model": "m", "url": judge})
    given = function(
        prompts=["write", [{"role": "user", "content": "write"}], "write", "write"],
        completions=["a good text", "a good text", "odd", "good but busy"],
        ground_truth=["ref", None, None, None],
        dataset=["general-quality_ref", "general-quality", "general-quality", ["general-quality"]],
    )
    assert given == [0.8, 0.8, None, 0.8]
    assert any("<reference>\nref\n" in b["messages"][0]["content"] for b in _Judge.asked)
    assert {b["model"] for b in _Judge.asked} == {"m"} and all(b["temperature"] == 0 for b in _Judge.asked)


def test_no_judge_at_all_ends_the_run_with_a_reason() -> None:
    with pytest.raises(RuntimeError, match=r"the judge at http://127.0.0.1:9/v1 answered none of 1 requests"):
        scores_of(["q"], ["a"], [None], model="m", url="http://127.0.0.1:9/v1")
