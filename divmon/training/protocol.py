"""The protocol of a run: its probes, each with the renderer, decoding and verifier that every evaluation uses."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from divmon.grading import verifiers
from divmon.grading.grader import judge
from divmon.options import Options
from divmon.prompts import probes
from divmon.prompts.rendering import PromptForm, Renderer, own_tokenizer, prompt_form
from divmon.sampling import Request
from divmon.sampling.generation_config import put_aside
from divmon.sampling.likelihood import Row, rows_of
from divmon.training.sharded_models import unwrapped
from divmon.types import Decoding, Probe, Prompt, RenderedPrompt, Sample, Verdict

SHOWN = 400
"""Characters of the first prompt that are shown to a person."""
NO_THINK = "-no-think"
"""Ends the name of a probe whose reasoning is suppressed, beside the same probe with it."""


class Asking:
    """The same prompts, rendered, decoded and graded in the same way at every evaluation.

    Args:
        processing_class: the model's tokenizer, or a processor.
        train_dataset: looked at for whether training speaks through the chat template.
        eval_dataset: where the probe is "eval".
        model: where there is one; looked at for signs of a base model where the training rows do not tell.

    Raises:
        ValueError, FileNotFoundError: an option does not fit; the message says what to do.
    """

    def __init__(
        self,
        options: Options,
        processing_class: Any,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        model: Any = None,
    ) -> None:
        self.options = options
        self.probes = probes.resolve(
            options.probes,
            num_prompts=options.num_prompts,
            seed=options.seed,
            eval_dataset=eval_dataset,
            tokenizer=own_tokenizer(processing_class),
        )
        model = None if model is None else unwrapped(model)
        self.form = PromptForm(bool(options.chat), f"chat={options.chat!r}")
        if options.chat == "auto":
            self.form = prompt_form(processing_class, train_dataset, model)
        self._aside = "" if model is None else put_aside(model)
        both = options.think == "both"
        self.renderer, self._suppressing = (
            Renderer(
                processing_class,
                chat=self.form.chat,
                system_prompt=options.system_prompt,
                chat_template_kwargs=options.template_arguments,
                think=think,
            )
            for think in ("auto" if both else options.think, "off")
        )
        self._suppressed = {probe.name + NO_THINK for probe in self.probes} if both else set()
        if both:
            self.probes += [replace(probe, name=probe.name + NO_THINK) for probe in self.probes]
        self.decodings = {probe.name: self._decoding(probe) for probe in self.probes}

    def render(self, probe: Probe, prompt: Prompt) -> RenderedPrompt:
        return self._renderer_of(probe).render(probe.name, prompt)

    def requests(self, num_samples: int) -> list[Request]:
        """All prompts of all probes, `num_samples` completions each."""
        return [
            Request(self.render(probe, prompt), self.decodings[probe.name], num_samples)
            for probe in self.probes
            for prompt in probe.prompts
        ]

    def rows(self, request: Request, samples: Sequence[Sample]) -> list[Row]:
        """The first completions of a prompt as token ids, for their likelihood."""
        suppressed = request.prompt.task in self._suppressed
        return rows_of(self._suppressing if suppressed else self.renderer, request.prompt, samples)

    def verifier(self, probe: Probe) -> Any:
        """The rule that grades a probe; None where there is none."""
        return self.options.verifier or probe.verifier

    def grade(self, probe: Probe, samples: Sequence[Sample]) -> list[Verdict]:
        """A verdict for each sample; none at all where nothing grades the probe."""
        if self.verifier(probe) is None:
            return []
        prompts = {prompt.id: prompt for prompt in probe.prompts}
        return judge(
            self.verifier(probe),
            samples,
            [prompts[sample.prompt_id] for sample in samples],
            allow_unsandboxed_code=self.options.allow_unsandboxed_code,
        )

    def notes(self) -> list[str]:
        """What was chosen without being told, a line each: how prompts are rendered, and whose settings sample."""
        lines = []
        if self.form.guessed:
            chosen, other = ("through the chat template", "False") if self.form.chat else ("as plain text", "True")
            first = self.requests(1)[0].prompt.text
            shown = first if len(first) <= SHOWN else f"{first[: SHOWN // 2]} ... {first[-SHOWN // 2 :]}"
            lines.append(
                f"divmon: prompts are rendered {chosen}: {self.form.reason}. The first reads {shown!r}. If that is not"
                f" how this model is used, set chat={other} (--divmon_chat {other.lower()})"
            )
        if self._aside:
            options = self.options
            lines.append(
                f"divmon: samples are generated with temperature {options.temperature:g} and top_p {options.top_p:g}"
                f" alone; of the model's own generation_config, {self._aside} is put aside"
            )
        return lines

    def cannot_judge(self) -> list[str]:
        """Rules whose library is missing, so that they judge less, and reference answers that nothing grades by: better
        said before training than found after.

        Raises:
            ValueError: there is no such rule.
        """
        lines = []
        for rule in {self.verifier(probe) for probe in self.probes} - {None}:
            missing = [name for name in verifiers.load(rule).imports if importlib.util.find_spec(name) is None]
            if missing:
                names = ", ".join(missing)
                lines.append(f"divmon: {rule} judges less without {names}; pip install 'divmon[verify]' brings it")
        if self.options.verifier is None and (waiting := probes.ungraded(self.probes)):
            lines.append(f"divmon: {waiting}")
        return lines

    def _renderer_of(self, probe: Probe) -> Renderer:
        return self._suppressing if probe.name in self._suppressed else self.renderer

    def _decoding(self, probe: Probe) -> Decoding:
        """The task's limit, and room to reason where reasoning is expected."""
        options = self.options
        # Plain prompts may end with an open reasoning block too, as those of RL from a base model do.
        reasons = self._renderer_of(probe).reasons or any(self.render(probe, p).in_reasoning for p in probe.prompts)
        answer = options.max_new_tokens or probe.max_new_tokens
        return Decoding(
            max_new_tokens=answer + (options.max_reasoning_tokens if reasons else 0),
            temperature=options.temperature,
            top_p=options.top_p,
            stop=probe.stops(chat=self.renderer.chat),
        )
