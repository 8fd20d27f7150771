"""Programs as models write them: in fences, bare, as continuations, with prose around, and not at all."""

from __future__ import annotations

import ast
import json
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.grading.program_extraction import extract
from divmon.scoring.metric_inputs import program

F = "def f(x):\n    return x * x"
HEAD = (
    'import math\n\n\ndef helper(n):\n    return n\n\n\ndef f(x):\n    """Squares x.\n\n    >>> f(2)\n    4\n    """\n'
)


def written(text: str, *names: str, prompt: str = "") -> str | None:
    found = extract(text, names, prompt)
    return found.written if found else None


def run(text: str, argument: object = 3) -> object:
    """What the program made of a HumanEval-like answer returns."""
    program = extract(text, ("f",), HEAD)
    assert program is not None
    space: dict[str, object] = {}
    exec(program.source, space)  # our own texts, below
    return space["f"](argument)  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        f"{F}\n```\nThis multiplies x by itself.",
        f"Here:\n{F}\n```\nx = the side (of it",
        f"```python {{linenos=true}}\n{F}\n```",
        f"```python title=main.py\n{F}\n```",
        f"```{F}\n```\nDone.",
        f"```python\nimport math\n```python\n{F}\n```",
        f"````markdown\nHere:\n```python\n{F}\n```\nDone\n````\nBye",
        "> ```python\n> def f(x):\n>     return x * x\n> ```",
        f"```python\n{F}\n``` This is it.\nx = the side",
        f"```python\nx = int(input())\ndef f(x):\n    return 1\n```\nBetter:\n```python\n{F}\n```",
        f"```python\n{F}\n```",
        f"```\n{F}\n```",
        f"```Python3\n{F}\n```",
        f"~~~py\n{F}\n~~~",
        f"Here it is:\n\n```python\n\n{F}\n\n```\nIt squares, like `f(2)`.",
        f"Answer: ```python\n{F}```",
        f"1. As a list item:\n   ```python\n   {F.replace(chr(10), chr(10) + '   ')}\n   ```",
        f"```bash\npip install x\n```\n```python\n{F}\n```\n```text\n9\n```",
        f"```python\ndef f(x):\n    return 1\n```\nBetter:\n```python\n{F}\n```",
        f"```python\n{F}\n```\nUse it so:\n```python\nprint(f(3))\n```",
        f"```python\n{F}\n```\nTests:\n```python\ndef test_f():\n    assert f(2) == 4\n```",
        f"````python\n{F}\n````",
        f"```python\r\n{F}\r\n```".replace("\r\n", "\n"),
    ],
)
def test_fences(text: str) -> None:
    program = extract(text, ("f",))
    assert program is not None and program.written.strip() == F and program.closed


@pytest.mark.parametrize(
    ("fences", "expected"),
    [
        (["import math", "def f(x):\n    return math.prod([x])"], [0, 1]),
        (["from math import (\n    prod,\n    sqrt,\n)", "def f(x):\n    return prod([x])"], [0, 1]),
        (["from math import *", "def f(x):\n    return prod([x])"], [0, 1]),
        (["import numpy as np, re", "def f(x):\n    return np.abs(x)"], [0, 1]),
        (["N = 7", "def f(x):\n    return x % N"], [0, 1]),
        (["import re", "@cached\ndef h(x):\n    return re.sub(x)", "def f(x):\n    return h(x)"], [0, 1, 2]),
        (["def h(x):\n    return 1", "def h(x):\n    return 2", "def f(x):\n    return h(x)"], [1, 2]),
        (["class Node:\n    pass", "def f(x):\n    return Node()"], [0, 1]),
        (["x = 5", "import os", "def f(x):\n    return x"], [2]),
        (["i = input()", "def f(x):\n    return [i for i in x]"], [1]),
    ],
)
def test_what_a_program_uses_of_other_fences_comes_with_it(fences: list[str], expected: list[int]) -> None:
    text = "\nand\n".join(f"```python\n{code}\n```" for code in fences)
    assert written(text, "f") == "\n".join(fences[i] for i in expected)


def test_fences_of_a_docstring_and_quotes_that_never_close() -> None:
    code = 'def f(x):\n    """Squares.\n\n    ```python\n    f(2)\n    ```\n    """\n    return x * x'
    odd = "x = \"'''\"\n" + F
    assert written(f"```python\n{code}\n```\nDone.", "f") == written(code, "f") == code
    assert written(f"Here:\n\n{code}\n\nDone.", "f") == code
    assert written(f"```python\n{odd}\n```\nDone.", "f") == odd


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python def f(x): return x * x```", "def f(x): return x * x"),
        ("Use ```def f(x): return x * x``` here.", "def f(x): return x * x"),
        ("```f = lambda x: x * x```", "f = lambda x: x * x"),
        (f"Call ```f(2)``` so:\n{F}", F),
    ],
)
def test_fences_on_one_line(text: str, expected: str) -> None:
    assert written(text, "f") == written(text) == expected


def test_a_fence_cut_off_is_open() -> None:
    program = extract(f"Sure.\n```python\n{F}", ("f",))
    assert program is not None and program.written == F and not program.closed


@pytest.mark.parametrize(
    "text",
    [
        F,
        f"\n\n{F}\n",
        f"Here is a function that does it:\n\n{F}\n\nIt multiplies x by itself, so f(2) is 4.",
        f"# Solution\nWe need squares.\n\n{F}\n\nExplanation: simple.",
        f"First I thought of this:\ndef g(x):\n    return x\nBut no.\n\n{F}\n",
    ],
)
def test_bare_code_without_its_prose(text: str) -> None:
    program = extract(text, ("f",))
    assert program is not None and program.written == F and not program.closed


def test_bare_code_keeps_what_belongs_to_it() -> None:
    code = (
        'import re\n\nX = {\n    1: 2,\n}\n\n@staticmethod\ndef f(x):\n    s = """\nplain words here\n"""\n    return s'
    )
    assert written(f"Here:\n{code}\nThat is all.", "f") == code


@pytest.mark.parametrize("text", ["", " \n\t\n", "I would rather not.", "The answer is 4.", "```python\n```"])
def test_no_program(text: str) -> None:
    assert extract(text, ("f",)) is None
    assert extract(text, ("f",), HEAD) is None


@pytest.mark.parametrize(
    "text",
    [
        "    return x * x",
        "    return x * x\n\n\nThis squares x.",
        "\n    y = x * x\n    return y\n",
        "return x * x",
        "y = x * x\n    return y",
        "if x:\n        return x * x\n    return 0",
        "y = x\nif y:\n    return x * x\nreturn 0",
        "for _ in range(1):\n    return x * x",
        "if x < 0: return 9\n    return x * x",
        "if x < 0:\n      return 9\n\n    return x * x",
        "y = x * x\n    return y\n\nprint(f(2))",
        "    # squares\n    return x * x\n\nprint(f(2))",
        "```python\n    return x * x\n```",
        "```python\nreturn x * x\n```",
        F,
        f"```python\n{F}\n```",
        "def f(x):\n    return math.prod([helper(x), x])",
        "```python\nfrom __future__ import annotations\ndef f(x: Foo):\n    return x * x\n```",
        "from math import prod\n\ndef f(x):\n    return prod([x, x])",
    ],
)
def test_continuations_and_whole_functions(text: str) -> None:
    assert run(text) == 9


def test_a_body_and_a_whole_program_reach_the_metrics_as_what_they_are(shared: Path | None) -> None:
    rows = [{"prompt": "def f(x):\n", "canonical_solution": "    y = x\n    return y\n"}]
    if shared is not None:
        rows += [json.loads(line) for line in (shared / "data/probes/humaneval.jsonl").open()]
    for row in rows:
        body = row["canonical_solution"]
        for text in (body, body.strip("\n").lstrip(), f"```python\n{body}```", f"{body}\n\nThis is how it works."):
            assert same_tree(program(text), body), text
        whole = row["prompt"] + body
        for text in (whole, f"Sure!\n```python\n{whole}```\nDone.", f"{whole}\n\nThis is how it works."):
            assert same_tree(program(text), whole), text


def same_tree(found: str | None, source: str) -> bool:
    trees = [ast.dump(ast.parse(textwrap.dedent(one))) for one in (found or "", source)]
    return trees[0] == trees[1]


def test_names_are_preferred_over_the_last_function() -> None:
    text = f"```python\n{F}\n```\nand\n```python\ndef main():\n    print(f(2))\n```"
    assert written(text, "f") == F
    assert "main" in (written(text) or "")


@given(st.text(alphabet="`~\n \t#defx=():'\"[]python", max_size=200))
def test_any_text_is_read(text: str) -> None:
    for prompt in ("", HEAD):
        program = extract(text, ("f",), prompt)
        assert program is None or program.written.strip()


@pytest.mark.parametrize(
    "unit",
    [
        "```\n",
        "a ",
        "x,",
        "`",
        "    ",
        "def f(",
        '"""',
        "x = (",
        "f(x)[0].",
        "if : ",
        "\n",
        " ~",
        "import a\n```\n",
        "a = b\n\nhi there\n",
        "```python x=1\n",
        '```\n"""\n',
        "```a``` ",
    ],
)
def test_long_hostile_texts_take_linear_time(unit: str) -> None:
    start = time.perf_counter()
    for prompt in ("", HEAD):
        extract(unit * (200_000 // len(unit)), ("f",), prompt)
        extract("```python\n" + unit * (200_000 // len(unit)), ("f",), prompt)
    assert time.perf_counter() - start < 5
