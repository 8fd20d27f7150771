"""A row of our own in the schema of each task's data set, with what it becomes."""

from __future__ import annotations

from typing import Any

# task: (a row of our own in the data set's schema, the prompt it becomes, its id, its gold)
ROWS: dict[str, tuple[dict[str, Any], str, str, str | None]] = {
    "tldr": (
        {"subreddit": "r/tea", "title": "Too hot", "post": "I burnt my tongue.", "summary": "Wait."},
        "SUBREDDIT: r/tea\nTITLE: Too hot\nPOST: I burnt my tongue.\nTL;DR:", "0", None,
    ),
    "cnn_dailymail": (
        {"article": "A bridge opened.", "highlights": "Bridge opens.", "id": "f001ec"},
        "ARTICLE: A bridge opened.\nTL;DR:", "f001ec", None,
    ),
    "xsum": (
        {"document": "A bridge opened.", "summary": "It is open.", "id": "338"},
        "ARTICLE: A bridge opened.\nTL;DR:", "338", None,
    ),
    "humaneval": (
        {
            "task_id": "HumanEval/900", "prompt": "def one():\n    \"\"\"1.\"\"\"\n", "entry_point": "one",
            "canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n",
        },
        "def one():\n    \"\"\"1.\"\"\"\n", "HumanEval/900", None,
    ),
    "mbpp": (
        {
            "text": "Write a function that gives 1.", "code": "def one():\n    return 1", "task_id": 900,
            "test_setup_code": "", "test_list": ["assert one() == 1"], "challenge_test_list": [],
        },
        '"""\nWrite a function that gives 1.\n"""\n', "900", None,
    ),
    "cruxeval": (
        {"code": "def f(x):\n    return x * 2", "input": "'ab'", "output": "'abab'", "id": "sample_900"},
        "Given the following Python function:\n\n```python\ndef f(x):\n    return x * 2\n```\n\n"
        "What is the output of `f('ab')`?\n\nAnswer:", "sample_900", "'abab'",
    ),
    "gsm8k": (
        {"question": "2 pens and 3?", "answer": "2 + 3 = 5\n#### 5"}, "Question: 2 pens and 3?\n\nAnswer:", "0", "5",
    ),
    "math_algebra": (
        {"problem": "Half of 1?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{\\frac{1}{2}}$."},
        "Problem: Half of 1?\n\nSolution:", "0", "\\frac{1}{2}",
    ),
    "math_geometry": (
        {"problem": "Area?", "level": "Level 1", "type": "Geometry", "solution": "$\\boxed{4\\pi}$"},
        "Problem: Area?\n\nSolution:", "0", "4\\pi",
    ),
    "truthfulqa": (
        {
            "type": "Adversarial", "category": "Myths", "question": "Do seeds grow in you?", "best_answer": "No",
            "correct_answers": ["No", "They pass"], "incorrect_answers": ["Yes"], "source": "",
        },
        "Q: Do seeds grow in you?\nA:", "0", "No",
    ),
    "alpaca": (
        {"instruction": "Greet.", "input": "Ann", "output": "Hello Ann", "text": ""},
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a"
        " response that appropriately completes the request.\n\n### Instruction:\nGreet.\n\n### Input:\nAnn\n\n"
        "### Response:\n", "0", None,
    ),
    "ifeval": (
        {"key": 9, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        "No commas.", "9", None,
    ),
    "writingprompts": (
        {"prompt": "[ WP ] A ship returns . \n", "story": "It did."}, "[ WP ] A ship returns .\n\n", "0", None,
    ),
    "prism": (
        {
            "conversation_id": "c7", "user_id": "user1", "conversation_type": "values guided",
            "opening_prompt": " Should we eat meat? ", "included_in_balanced_subset": True,
        },
        "Should we eat meat?", "c7", None,
    ),
    "wildbench": (
        {
            "session_id": "s1", "checklist": ["Is it kind?"],
            "conversation_input": [
                {"role": "user", "content": " Plan a trip. "}, {"role": "assistant", "content": "Where?"},
                {"role": "user", "content": "Rome"},
            ],
        },
        "Plan a trip.", "s1", None,
    ),
}  # fmt: skip
