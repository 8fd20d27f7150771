"""The miniature's open-ended family: short stories that have no right answer, told in ten manners.

    Tell a story about Mia and a lost key.

    Once upon a time Mia had a lost key. One night it began to sing. They lived in peace.

As with the word problems, all is drawn from a `random.Random` of the caller's, and a tenth of all requests is held out.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from divmon.lineages.miniature.problems import NAMES

OBJECTS = (
    "a lost key", "a red kite", "an old clock", "a small boat", "a wooden box", "a blue door",
    "a paper bird", "a tall tree", "a silver bell", "a stray dog", "a torn map", "a warm coat",
)  # fmt: skip

REQUESTS = (
    "Tell a story about {name} and {thing}.",
    "Write two lines about {name} and {thing}.",
    "What happened to {name} and {thing}?",
    "Make up a tale of {name} with {thing}.",
)

SLOTS = {
    "place": ("by the river", "in the attic", "at the market", "under a bridge", "on the hill", "near the school"),
    "time": ("night", "morning", "winter", "evening"),
    "turn": ("began to sing", "was gone", "shone like gold", "spoke at last", "grew and grew", "broke in two"),
    "feeling": ("happy", "afraid", "proud", "sad", "curious"),
    "did": ("took it home", "gave it away", "hid it well", "ran all the way", "told everyone"),
    "end": ("They lived in peace.", "Nobody knew why.", "It was never seen again.", "All was well.", "That was that."),
    "friend": ("Otto", "Rosa", "Hugo", "Nina"),
    "moral": ("share what you have", "look twice", "be kind", "wait a day"),
}

MANNERS = {
    "plain": "{name} found {thing} {place}. {pronoun} {did}. {end}",
    "fairy_tale": "Once upon a time {name} had {thing}. One {time} it {turn}. {end}",
    "diary": "Dear diary, today I saw {thing} {place}. I felt {feeling}. Yours, {name}",
    "news": "NEWS: {name} finds {thing} {place}. The town is {feeling}. {end}",
    "dialogue": '"Look, {thing}!" said {name}. "It {turn}," said {friend}. {end}',
    "verse": "{name} went out one {time},\n{thing} {turn},\n{place} {pronoun_low} {did}.",
    "letter": "Dear {friend}, {name} lost {thing} {place}. Please be {feeling}. Your friend",
    "list": "1. {name} wakes one {time}.\n2. {thing} {turn}.\n3. {end}",
    "fable": "{name} wanted {thing}, but it {turn}. The moral: {moral}.",
    "play": "{name}: I am {feeling}!\n{friend}: Is it {thing}?\n{name}: It {turn}.",
}
"""Ten ways to tell; what stands in braces is drawn anew each time."""


@dataclass(frozen=True)
class Request:
    """Whom and what to tell of."""

    text: str
    name: str
    thing: str


def draw_request(rng: random.Random, *, held_out: bool = False) -> Request:
    """A request of the training side, or of the held-out tenth of all."""
    while True:
        name, thing = rng.choice(list(NAMES)), rng.choice(OBJECTS)
        text = rng.choice(REQUESTS).format(name=name, thing=thing)
        if (zlib.crc32(text.encode()) % 10 == 0) == held_out:
            return Request(text, name, thing)


def tell(request: Request, manner: str, rng: random.Random, *, poor: bool = False) -> str:
    """A story in that manner. A poor one speaks of another thing, as a weak model does.

    Raises:
        ValueError: no such manner.
    """
    if manner not in MANNERS:
        raise ValueError(f"no manner named {manner!r}; there are {', '.join(MANNERS)}")
    others = [thing for thing in OBJECTS if thing != request.thing]
    thing = rng.choice(others) if poor else request.thing
    drawn = {slot: rng.choice(words) for slot, words in SLOTS.items()}
    pronoun = NAMES[request.name]
    return MANNERS[manner].format(name=request.name, thing=thing, pronoun=pronoun, pronoun_low=pronoun.lower(), **drawn)
