"""Chat templates of every kind, and tokenizers with them."""

from __future__ import annotations

from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from divmon.prompts.rendering import Renderer
from divmon.types import Prompt

SPECIAL = ["<bos>", "<eos>", "<pad>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|bot|>"]
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"


OLMO_THINK = (
    TURNS + "{% if m.role == 'assistant' and loop.last %}{{ eos_token }}{% else %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)


QWEN = (
    TURNS + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% elif m.role =="
    " 'assistant' %}<|bot|>{{ m.content.split('</think>')[-1] }}<eos>{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|><think>\n{% endif %}"
)


GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


PHI = (
    "{% for m in messages %}<|{{ 'user' if m.role == 'user' else 'bot' }}|>\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>\n{% else %}{{ eos_token }}{% endif %}"
)


INST = (  # no generation prompt of its own, and no system turn
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% elif m.role =="
    " 'assistant' %} {{ m.content }}{{ eos_token }}{% else %}{{ raise_exception('no system role') }}{% endif %}"
    "{% endfor %}"
)


def tokenizer_with(
    template: str | None = None, *, bos: bool = False, ends: bool = False, tags: bool | None = None
) -> Any:
    """Bytes as tokens; `bos` and `ends` are put around a text, `tags` makes the think tags (special) tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(SPECIAL + alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if tags is not None:
        backend.add_tokens([AddedToken(tag, special=tags, normalized=False) for tag in ("<think>", "</think>")])
    if bos or ends:
        backend.post_processor = processors.TemplateProcessing(
            single=("<bos> " if bos else "") + "$A" + (" <eos>" if ends else ""),
            special_tokens=[("<bos>", 0), ("<eos>", 1)],
        )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        additional_special_tokens=SPECIAL[3:],
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def text_of(template: str | None, content: Any, *, chat: bool = True, **options: Any) -> str:
    return Renderer(tokenizer_with(template), chat=chat, **options).render("p", Prompt("0", content)).text


USER = {"role": "user", "content": "Hi."}


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
