"""Opening prompts of people from 75 countries, many on contested values (Kirk et al. 2024)."""

from __future__ import annotations

import re

from divmon.prompts.tasks import Row, Task


def prism() -> Task:
    """PRISM as the paper prompts it: the opening prompt of a balanced subset; nothing grades an answer."""
    return Task(
        name="prism",
        category="values",
        dataset="HannahRoseKirk/prism-alignment",
        subset="conversations",
        split="train",
        rows=8_011,
        keep=is_used,
        prompt=lambda row: row["opening_prompt"].strip(),
        id_field="conversation_id",
        max_new_tokens=512,
    )


GREETINGS = {"hello", "hi", "hey", "hola", "hello there", "hi there", "hey there", "good morning", "good afternoon"}
ENGLISH = frozenset(
    [
        *("about", "and", "are", "at", "be", "but", "by", "can", "could", "did", "does", "for", "from", "give", "had"),
        *("has", "have", "how", "if", "is", "it", "its", "my", "of", "should", "tell", "than", "that", "the", "their"),
        *("them", "there", "they", "think", "this", "to", "we", "were", "what", "when", "where", "which", "who", "why"),
        *("with", "would", "you", "your", "it's", "i'm", "don't", "what's"),
    ]
)
"""Common words of English that Spanish, French, Italian and Portuguese do not have."""


def is_used(row: Row) -> bool:
    """The rule: in the publisher's balanced subset (as many of each conversation type), English, and no bare greeting.

    The rows name no language, so English is told by the text, with nothing to install: at most a fifth of the
    characters are not ASCII (the paper's rule, which alone lets Spanish pass), and a prompt of three words or more has
    a common one of English among them.
    """
    prompt = row["opening_prompt"].strip()
    words = re.findall(r"[a-z]+(?:'[a-z]+)?", prompt.lower().replace("’", "'"))
    balanced = str(row["included_in_balanced_subset"]).lower() == "true"
    mostly_ascii = sum(not character.isascii() for character in prompt) <= 0.2 * len(prompt)
    english = mostly_ascii and (len(words) < 3 or not ENGLISH.isdisjoint(words))
    return balanced and english and bool(words) and " ".join(words) not in GREETINGS
