"""What only real weights show: chat answers end where the model ends them, and scores are those of the paper's encoder.

The weights come from packages (recipes/smollm2/weights.txt); `tests/conftest.py` skips these tests without them.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import protocol_table
from support.task_rows import ROWS

from divmon import DiversityMonitor
from divmon.grading.grader import judge
from divmon.prompts import tasks
from divmon.scoring.encoders import TextEncoder
from divmon.scoring.metric_inputs import Outputs
from divmon.scoring.packaged_weights import MPNET, folder
from divmon.scoring.scorer import Scorer

pytestmark = pytest.mark.real

PROGRAMS = [
    {
        "task_id": f"HumanEval/{900 + i}",
        "prompt": f'def {name}:\n    """{says}"""\n',
        "entry_point": name.partition("(")[0],
        "canonical_solution": f"    return {body}\n",
        "test": f"def check(candidate):\n    assert candidate{called}\n",
    }
    for i, (name, says, body, called) in enumerate(
        [
            ("add(a, b)", "Return the sum of a and b.", "a + b", "(2, 5) == 7"),
            ("largest(numbers)", "Return the largest of a list of numbers.", "max(numbers)", "([3, 9, 4]) == 9"),
        ]
    )
]
"""In HumanEval's schema."""
POSTS = [
    ROWS["tldr"][0],
    {
        "subreddit": "r/garden",
        "title": "My neighbor's cat sleeps in my seed trays",
        "post": "Every spring I sow tomatoes on the porch, and every spring the cat next door lies down on them. I have"
        " tried wire, water and asking the neighbor. She says that a cat cannot be told. Should I move the trays?",
        "summary": "A cat sleeps on my seedlings.",
    },
]


@pytest.fixture(scope="module")
def smollm2() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = folder("smollm2")
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="module")
def snapshot(smollm2: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("real")
    for name, rows in {"humaneval": PROGRAMS, "tldr": POSTS}.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = f"humaneval@{path}/humaneval.jsonl,tldr@{path}/tldr.jsonl"
    options = {"num_samples": 4, "reference_samples": 4, "max_new_tokens": 160, "metrics": "ead"}
    monitor = DiversityMonitor(spec, output_dir=str(path / "run"), chat=True, progress=False, loggers=[], **options)
    taken = monitor.measure(*smollm2)
    monitor.close()
    return taken


def test_no_chat_answer_ends_by_a_task_s_stop_strings(snapshot: Any) -> None:
    assert len(snapshot.samples) == 16 and not snapshot.missing
    assert {sample.finish for sample in snapshot.samples} <= {"eos", "length"}
    stops = {name: tasks.load(name).stop for name in ("humaneval", "tldr")}
    whole = [s for s in snapshot.samples if any(stop in s.text for stop in stops[s.task])]
    assert {sample.task for sample in whole} == {"humaneval", "tldr"}, "or this shows nothing"


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
def test_a_program_in_a_fence_is_judged_on_what_it_does(snapshot: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROGRAMS))
    prompts = {p.id: p for p in tasks.load("humaneval").probe(10, source=tmp_path / "rows.jsonl").prompts}
    fenced = [
        (sample, sample.verdict, found[1])
        for sample in snapshot.samples
        if sample.task == "humaneval" and (found := re.search(r"```python\n(.*?)\n```", sample.text, re.DOTALL))
    ]
    assert fenced, "or this shows nothing"
    bare = judge("python_tests", [program for *_, program in fenced], [prompts[s.prompt_id] for s, *_ in fenced])
    assert [verdict.correct for _, verdict, _ in fenced] == [verdict.correct for verdict in bare]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
def test_the_protocol_table_on_the_real_tokenizer(smollm2: tuple[Any, Any]) -> None:
    found = protocol_table.lines(smollm2[1], protocol_table.REAL_HEAD)
    kept = protocol_table.REAL_TABLE.read_text(encoding="utf-8").splitlines()
    assert found == kept, "`python -m support.protocol_table` in tests/ writes it anew"
    protocol_table.check(found)


@pytest.mark.usefixtures("paper_encoder")
def test_auto_takes_the_paper_s_encoder_and_its_scores_are_those_of_sentence_transformers(shared: Path | None) -> None:
    """Against float32 sentence-transformers alone, with the formulas written out."""
    from sentence_transformers import SentenceTransformer

    if shared is None:
        texts = [["The cat sat.", "A cat was sitting.", "Dogs bark.", "It is 5."], ["4", "four", "It is 4.", "Five."]]
    else:
        lines = (shared / "data" / "outputs" / "gsm8k_model_solutions.jsonl").read_text().splitlines()
        texts = [json.loads(line)["outputs"] for line in lines[:3]]
    scorer = Scorer("sbert,vendi", embedder="auto", device="cpu")
    assert scorer.encoders()["encoder"] == MPNET == TextEncoder(MPNET).name
    ids = [str(i) for i in range(len(texts))]
    scored = scorer.score([Outputs("t", ids, ["other"] * len(texts), texts)])
    model = SentenceTransformer(str(folder(MPNET)), device="cpu")
    assert model.dtype is None or str(model.dtype) == "torch.float32"
    expected: dict[str, list[float]] = {"sbert": [], "vendi": []}
    for row in texts:
        embeddings = np.asarray(model.encode(row, normalize_embeddings=True), dtype=np.float64)
        cosines = embeddings @ embeddings.T
        eigenvalues = np.linalg.eigvalsh(cosines / len(row)).clip(1e-12)
        expected["sbert"].append(1 - cosines[np.triu_indices(len(row), 1)].mean())
        expected["vendi"].append(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
    for name, values in expected.items():
        (score,) = [score for score in scored.scores if score.metric == name]
        np.testing.assert_allclose(score.values, values, atol=1e-4)
