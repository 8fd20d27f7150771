"""What tests share: small models, small runs, run directories, servers and browsers to test with."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).parent
"""Scripts that tests run in processes of their own lie here."""
TESTS = SUPPORT.parent
RESULTS = TESTS / "results"
"""Tables that tests and benchmarks have written."""
ROOT = TESTS.parent
RECIPES = ROOT / "recipes" / "olmo3"
