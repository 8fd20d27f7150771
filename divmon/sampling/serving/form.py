"""How a server is asked for one completion: the endpoint, the shape of the prompt, and every field of sampling said.

Servers take different fields: vLLM and SGLang beyond OpenAI's, `transformers serve` refuses any it does not know but
takes a whole generation config. `divmon.sampling.serving.probe` finds out which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.serving.client import Unreadable
from divmon.types import Finish, Message, RenderedPrompt

Fields = Literal["vllm", "transformers", "openai"]
FIELDS: tuple[Fields, ...] = get_args(Fields)
Messages = Callable[[str, str], Sequence[Message]]
"""(task, prompt id) -> the conversation, for servers that do chats only."""


@dataclass(frozen=True)
class Form:
    """One way to ask."""

    fields: Fields
    ids: bool = False
    """The prompt goes as token ids; else as text."""
    chat: bool = False
    """As messages, through the server's own chat template."""

    @property
    def path(self) -> str:
        return "/chat/completions" if self.chat else "/completions"

    def __str__(self) -> str:
        prompts = "messages, through its own chat template" if self.chat else "token ids" if self.ids else "text"
        unsaid = "; top_k, min_p and repetition_penalty are its own" if self.fields == "openai" else ""
        return f"prompts as {prompts}; fields as {self.fields} takes them{unsaid}"


FORMS = (
    Form("vllm", ids=True),
    Form("vllm"),
    Form("openai", ids=True),
    Form("transformers"),
    Form("openai"),
    Form("vllm", chat=True),
    Form("transformers", chat=True),
    Form("openai", chat=True),
)
"""In the order of preference: ids before text, for templates and special tokens are then ours to the last token."""


@dataclass(frozen=True)
class Answer:
    """One completion as the server gave it."""

    text: str
    finish: Finish
    tokens: tuple[int, ...] | None = None
    """The completion's token ids, without the one that closed it, where the server gives them."""
    n_tokens: int | None = None
    prompt_tokens: int | None = None
    reasoning: str | None = None
    """Where the server splits it from the text."""
    model: str | None = None
    """What the server says has answered."""


class Writer:
    """Writes requests and reads answers.

    Args:
        eos_token_ids: what ends a completion.
        messages: the conversation of a prompt.
    """

    def __init__(self, renderer: Renderer, eos_token_ids: Collection[int], messages: Messages | None) -> None:
        self.renderer, self.messages = renderer, messages
        self.eos_token_ids = sorted(eos_token_ids)

    def body(self, form: Form, request: Request, model: str | None) -> dict[str, Any]:
        """The JSON of a request for one completion, but for its seed."""
        decoding, prompt = request.decoding, request.prompt
        body: dict[str, Any] = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "n": 1,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": False,
        }
        if model is not None:
            body["model"] = model
        if form.chat:
            assert self.messages is not None
            body["messages"] = list(self.messages(prompt.task, prompt.id))
        else:
            body["prompt"] = list(prompt.input_ids) if form.ids else self._text(form, prompt)
        # A stop string inside the reasoning must not end it; there completions are cut afterwards.
        if decoding.stop and not prompt.in_reasoning and not self.renderer.reasons:
            body["stop"] = list(decoding.stop)
        if form.fields == "vllm":
            body |= {
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "stop_token_ids": self.eos_token_ids,
                "skip_special_tokens": False,
                "return_token_ids": True,
            }
            if not form.chat:  # a chat template brings them
                body["add_special_tokens"] = False
        elif form.fields == "transformers":
            config = {"do_sample": decoding.temperature > 0, "top_k": 0, "repetition_penalty": 1.0}
            ends = {"eos_token_id": self.eos_token_ids, "pad_token_id": self.eos_token_ids[0]}
            body["generation_config"] = json.dumps(config | (ends if self.eos_token_ids else {}))
        return body

    def _text(self, form: Form, prompt: RenderedPrompt) -> str:
        """The text that becomes the prompt's ids once the server has added the special tokens that it adds."""
        if form.fields == "vllm":
            return prompt.text
        bos = self.renderer.tokenizer.bos_token
        shorter = prompt.text.removeprefix(bos) if bos else prompt.text
        fits = tuple(self.renderer.tokenizer(shorter)["input_ids"]) == prompt.input_ids
        return shorter if fits else prompt.text

    def read(self, answer: Any) -> Answer:
        """The completion in a server's answer.

        Raises:
            Unreadable: there is not one whole completion in it.
        """
        try:
            choices = list(answer["choices"])
            if len(choices) != 1:
                raise Unreadable(f"{len(choices)} completions where one was asked for (n=1)")
            return self._answer(choices[0], answer.get("usage") or {}, answer.get("model"))
        except (AttributeError, KeyError, TypeError) as error:
            raise Unreadable(f"an answer without a completion: {str(answer)[:80]}") from error

    def _answer(self, choice: dict[str, Any], usage: dict[str, Any], model: Any) -> Answer:
        message = choice.get("message") or {}
        text = (message.get("content") or "") if message else choice["text"]
        # The stop string that vLLM (first) or SGLang cut the text at, or the token that ended it.
        matched = choice.get("stop_reason", choice.get("matched_stop"))
        reason = choice["finish_reason"]
        if reason not in ("stop", "length") or not isinstance(text, str):
            raise Unreadable(f"a completion that is not finished (finish_reason {reason!r})")
        finish: Finish = "length" if reason == "length" else "stop" if isinstance(matched, str) else "eos"
        tokens = choice.get("token_ids")
        if tokens and finish == "eos" and tokens[-1] in (*self.eos_token_ids, matched):
            tokens = tokens[:-1]
        return Answer(
            text,
            finish,
            None if tokens is None else tuple(tokens),
            usage.get("completion_tokens"),
            usage.get("prompt_tokens"),
            message.get("reasoning_content") or message.get("reasoning"),
            model,
        )
