"""Programs as models write them: in fences, bare, as continuations, with prose around, and not at all."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.grading.program_extraction import extract

F = "def f(x):\n    return x * x"
HEAD = (
    'import math\n\n\ndef helper(n):\n    return n\n\n\ndef f(x):\n    """Squares x.\n\n    >>> f(2)\n    4\n    """\n'
)


def written(text: str, *names: str, prompt: str = "") -> str | None:
    program = extract(text, names, prompt)
    return program.written if program else None


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
    "unit", ["```\n", "a ", "x,", "`", "    ", "def f(", '"""', "x = (", "f(x)[0].", "if : ", "\n", " ~"]
)
def test_long_hostile_texts_take_linear_time(unit: str) -> None:
    start = time.perf_counter()
    for prompt in ("", HEAD):
        extract(unit * (200_000 // len(unit)), ("f",), prompt)
        extract("```python\n" + unit * (200_000 // len(unit)), ("f",), prompt)
    assert time.perf_counter() - start < 5
