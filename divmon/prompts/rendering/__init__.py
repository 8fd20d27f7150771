"""Prompt -> what the model sees, and completion ids -> the answer without its reasoning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from divmon.prompts.rendering.chat_template import (
    apply,
    assistant_header,
    end_of_turn_ids,
    own_tokenizer,
    template_of,
    tokenizer_copy,
)
from divmon.prompts.rendering.prompt_form import PromptForm, prompt_form
from divmon.types import Message, Prompt, RenderedPrompt

__all__ = ["PromptForm", "Renderer", "Think", "own_tokenizer", "prompt_form", "split_reasoning"]


@dataclass(frozen=True)
class Think:
    """The tags around a model's reasoning, and what to do about it."""

    open: str = "<think>"
    close: str = "</think>"
    empty: str = "<think>\n</think>\n"
    """The block that is prefilled to suppress reasoning (paper, protocol)."""
    mode: Literal["on", "off"] = "on"
    """"off" suppresses reasoning: by the template's own switch where it has one, else by prefilling `empty`."""


class Renderer:
    """Renders prompts with a copy of the tokenizer.

    Args:
        tokenizer: a tokenizer, or a processor that holds one.
        chat: through the chat template; else as plain text, where a lone user turn is its text and a longer
            conversation reads "System: ...\\nUser: ...\\nAssistant:". A text that ends with the template's assistant
            header went through it already and is taken as it is.
        system_prompt: the system turn before prompts that have none of their own.
        chat_template_kwargs: handed to the template.
        think: "auto" reads the template; "on" and "off" say whether the model is to reason; `Think` names other tags.

    Attributes:
        tokenizer: the copy.
        chat: as given.
        tags: around reasoning, where there is some.
        think: the tags of the reasoning; None where nothing speaks of it (`split` then strips the common ones).
        reasons: reasoning is expected, so completions want room for it.

    Raises:
        ValueError: the options do not fit each other or the tokenizer.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        chat: bool,
        system_prompt: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        think: Literal["auto", "on", "off"] | Think = "auto",
    ) -> None:
        self.tokenizer = tokenizer_copy(tokenizer)
        self.chat = chat
        self._system_prompt = system_prompt
        self._kwargs = dict(chat_template_kwargs or {})
        template = template_of(self.tokenizer)
        if chat and not template:
            raise ValueError(
                f"chat=True, but the tokenizer {self.tokenizer.name_or_path!r} has no chat template; pass chat=False,"
                " or tokenizer= with one that has"
            )
        if system_prompt is not None and not chat:
            raise ValueError(
                "system_prompt needs chat=True, but prompts are rendered as plain text; drop one of the two"
            )
        if not isinstance(think, Think) and think not in ("auto", "on", "off"):
            raise ValueError(f"expected think to be 'auto', 'on', 'off' or a Think, came {think!r}")
        self.tags = think if isinstance(think, Think) else Think(mode="off" if think == "off" else "on")
        self._switch = chat and "enable_thinking" in template
        if self._switch and think != "auto":
            self._kwargs["enable_thinking"] = self.tags.mode == "on"
        self._header, example = assistant_header(self.tokenizer, self._kwargs, self.tags.open) if chat else ("", "")
        mentioned = any(word in template for word in ("enable_thinking", self.tags.open, self.tags.close))
        self.think: Think | None = self.tags if think != "auto" or mentioned else None
        # A template whose own header closes the block has reasoning switched off.
        expected = chat and mentioned and not example.rstrip().endswith(self.tags.close)
        self.reasons: bool = expected if think == "auto" else self.tags.mode == "on"
        added = self.tokenizer.added_tokens_decoder.items()
        tags = {index for index, token in added if token.content in (self.tags.open, self.tags.close)}
        special = {index for index, token in added if token.special}
        self._dropped = (special | set(self.tokenizer.all_special_ids)) - tags

    def render(self, probe_name: str, prompt: Prompt) -> RenderedPrompt:
        """The prompt with its special tokens, never with two BOS; token ids are taken as they are. Raises ValueError:
        the template refuses the prompt, or nothing is left of it."""
        content = prompt.content
        if _is_ids(content):
            ids = list(content)
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
        elif self.chat and not self._is_rendered(content):
            turns: Any = ({"role": "user", "content": content},) if isinstance(content, str) else content
            text = self._prefill(self._through_template(f"{prompt.id!r} of '{probe_name}'", turns), self._switch)
            ids = self._with_one_bos(self._encode(_whole(text, prompt.id, probe_name)))
        else:
            text = self._prefill(content if isinstance(content, str) else _as_text(content))
            text, ids = self._plain(_whole(text, prompt.id, probe_name))
        if not ids:
            raise ValueError(f"prompt {prompt.id!r} of '{probe_name}' renders to no tokens; it reads {text!r}")
        in_reasoning = text.rstrip().endswith(self.tags.open)
        return RenderedPrompt(probe_name, prompt.id, text, tuple(ids), in_reasoning)

    def eos_token_ids(self, model_generation_eos: int | Iterable[int] | None) -> set[int]:
        """Every token that ends a completion: the generation config's, the tokenizer's, the template's end of turn.

        The last is what an SFT run on the template teaches, also where neither config names it.
        """
        ends = {model_generation_eos} if isinstance(model_generation_eos, int) else set(model_generation_eos or ())
        if self.tokenizer.eos_token_id is not None:
            ends.add(self.tokenizer.eos_token_id)
        return ends | end_of_turn_ids(self.tokenizer, self._kwargs) if self.chat else ends

    def split(self, token_ids: Sequence[int], in_reasoning: bool) -> tuple[str, str | None, bool]:
        """(text, reasoning, answered) of a completion; special tokens other than the reasoning's tags are dropped."""
        kept = [index for index in map(int, token_ids) if index not in self._dropped]
        text = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return split_reasoning(text, self.tags, in_reasoning)

    def split_text(self, text: str, in_reasoning: bool) -> tuple[str, str | None, bool]:
        """The same of a completion whose token ids are not known: special tokens are dropped by their spelling."""
        for token in self.tokenizer.convert_ids_to_tokens(sorted(self._dropped)):
            text = text.replace(token, "")
        return split_reasoning(text, self.tags, in_reasoning)

    def _through_template(self, name: str, turns: tuple[Message, ...]) -> str:
        if self._system_prompt is not None and not any(turn["role"] == "system" for turn in turns):
            turns = ({"role": "system", "content": self._system_prompt}, *turns)
        try:
            return apply(self.tokenizer, turns, self._kwargs, header=True)
        except Exception as error:  # templates raise what they like
            roles = ", ".join(turn["role"] for turn in turns)
            raise ValueError(f"the chat template refused prompt {name} (roles: {roles}): {error}") from error

    def _is_rendered(self, content: Any) -> bool:
        """Whether a text went through the template already, as data in TRL's text formats often did."""
        if not isinstance(content, str) or not self._header:
            return False
        return content.rstrip().removesuffix(self.tags.open).rstrip().endswith(self._header)

    def _prefill(self, text: str, switched: bool = False) -> str:
        """With reasoning off, the empty block, or what is missing of it; nothing where the template took care of it."""
        tags, ends = self.tags, text.rstrip()
        if tags.mode == "on" or ends.endswith(tags.close):
            return text
        if not ends.endswith(tags.open):
            return text if switched else text + tags.empty
        missing, space = tags.empty.removeprefix(tags.open), text[len(ends) :]
        return text + (missing.removeprefix(space) if missing.startswith(space) else missing.lstrip())

    def _plain(self, text: str) -> tuple[str, list[int]]:
        """With the special tokens that the tokenizer puts before a text, and not those it puts behind."""
        core, full = self._encode(text), self.tokenizer(text)["input_ids"]
        start = next((i for i in range(len(full)) if core and full[i : i + len(core)] == core), 0)
        before = full[:start]
        if core[: len(before)] == before:  # the text brings them itself
            before = []
        if before:
            text = self.tokenizer.decode(before, skip_special_tokens=False) + text
        return text, self._with_one_bos(before + core)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos_token_id
        while bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        return ids


def split_reasoning(text: str, tags: Think, in_reasoning: bool) -> tuple[str, str | None, bool]:
    """(answer, reasoning, answered) of a completion's text.

    The reasoning is a block at the start, or all up to a lone closing tag, as when the prompt opened the block (paper,
    protocol). A block that is opened and never closed leaves no answer.

    >>> split_reasoning("<think>2 + 2</think> 4", Think(), in_reasoning=False)
    ('4', '2 + 2', True)
    """
    opened = text.lstrip().startswith(tags.open)
    if opened:
        text = text.lstrip().removeprefix(tags.open)
    before, close, after = text.partition(tags.close)
    if close and (opened or in_reasoning or tags.open not in before):
        return after.lstrip(), before.strip(), True
    if opened or in_reasoning:
        return "", text.strip(), False
    return text, None, True


def _is_ids(content: Any) -> TypeGuard[tuple[int, ...]]:
    return not isinstance(content, str) and all(isinstance(item, int) for item in content)


def _as_text(turns: Any) -> str:
    if len(turns) == 1 and turns[0]["role"] == "user":
        return turns[0]["content"]
    return "\n".join([f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns] + ["Assistant:"])


def _whole(text: str, prompt_id: str, probe_name: str) -> str:
    """The text, which every tokenizer takes. Raises ValueError: it holds a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"prompt {prompt_id!r} of '{probe_name}' holds half a character, the lone surrogate"
            f" {text[error.start]!r}, which no tokenizer takes: read its file as UTF-8, or leave the prompt out"
        ) from None
    return text
