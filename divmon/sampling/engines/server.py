"""An OpenAI-compatible completion server (vLLM, SGLang, `transformers serve`): a request per sample, each with a seed.

Prompts are rendered here and sent as token ids, or as text where a server takes no ids, so that templates are ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Key, Request
from divmon.sampling.completions import from_ids, from_text, seed_of
from divmon.sampling.serving.client import Client, Refused, ServerProblem, Unanswered
from divmon.sampling.serving.form import FIELDS, FORMS, Answer, Fields, Form, Messages, Writer
from divmon.sampling.serving.probe import probe
from divmon.types import Sample

AT_ONCE: dict[Fields, int] = {"vllm": 64, "transformers": 1, "openai": 8}
"""Requests under way at a time, by the fields that a server takes."""


class Server:
    """Samples from a server.

    Args:
        client: of the server, or its address: "http://localhost:8000", or with the path up to "/v1".
        renderer: of the model's tokenizer; gives the answer in a completion's text.
        model: as the server names it; may be left out where it serves one model.
        concurrency: requests under way at a time. Where None, 64 for vLLM and SGLang, which draw them together, and 1
            for `transformers serve`, which draws one at a time (unless started with --continuous-batching) and repeats
            a seed's text only then.
        eos_token_ids: what ends a completion beside the tokenizer's and the template's own: those of the model's
            generation config.
        messages: the conversation of a prompt, for servers that do chats only; their own template is used then.
        fields: "auto" finds out which fields of sampling the server takes; "vllm" (and SGLang), "transformers" and
            "openai" say so.

    Raises:
        ValueError: an argument is out of range.
    """

    name = "server"

    def __init__(
        self,
        client: Client | str,
        renderer: Renderer,
        *,
        model: str | None = None,
        concurrency: int | None = None,
        eos_token_ids: Iterable[int] = (),
        messages: Messages | None = None,
        fields: str = "auto",
    ) -> None:
        if fields not in ("auto", *FIELDS):
            raise ValueError(f"fields: expected one of auto, {', '.join(FIELDS)}, got {fields!r}")
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency: expected at least 1, got {concurrency}")
        self.renderer, self.model, self.concurrency = renderer, model, concurrency
        self.client = Client(client) if isinstance(client, str) else client
        self.writer = Writer(renderer, renderer.eos_token_ids(eos_token_ids), messages)
        self.forms = [
            form for form in FORMS if fields in ("auto", form.fields) and (messages is not None or not form.chat)
        ]
        self.reason = "not asked yet"
        self._form: Form | None = None

    def check(self, requests: Sequence[Request]) -> None:
        """Once, before the first draw: whether the server can be drawn from, and how it wants to be asked.

        Raises:
            ServerProblem: it cannot; the message says what to do.
        """
        if self._form is not None or not requests:
            return

        def ask(form: Form, questions: Sequence[tuple[Request, int]]) -> list[Answer]:
            bodies = [self.writer.body(form, r, self.model) | {"seed": seed} for r, seed in questions]
            tries = min(2, self.client.retries)
            with ThreadPoolExecutor(self._at_once(form)) as pool:
                return list(pool.map(lambda body: self._answer(form, body, tries), bodies))

        try:
            found = probe(ask, requests, self.forms, self.client, self.model)
        except ServerProblem as problem:
            # A server that is started for one model often takes requests that name none; others list what they want.
            served = self.client.models() if self.model is None else []
            if len(served) != 1:
                several = f"; it lists several models: pass model= with one of {', '.join(served)}" if served else ""
                raise ServerProblem(f"{problem}{several}") from problem
            self.model = served[0]
            found = probe(ask, requests, self.forms, self.client, self.model)
        self._form = found.form
        self.reason = "; ".join([f"{self.client.url}{found.form.path}", *found.notes])

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """Samples every request; a prompt of which one sample cannot be had is in `missing` with the reason.

        Raises:
            ServerProblem: at the first call, as `check` does.
        """
        self.check(requests)
        drawing, form = Drawing(), self._form
        if form is None:
            return drawing
        failures = _Failures(self._at_once(form))
        # Prompts and answers are read in this thread: tokenizers are not safe to share.
        bodies = {request.key: self.writer.body(form, request, self.model) for request in requests}
        jobs = [(request, index) for request in requests for index in range(request.num_samples)]
        answers: dict[int, Answer] = {}
        pool = ThreadPoolExecutor(self._at_once(form), thread_name_prefix="divmon")
        try:
            asked = {}
            for place, (request, index) in enumerate(jobs):
                body = bodies[request.key] | {"seed": seed_of(seed, step, *request.key, index)}
                asked[pool.submit(self._try, form, request.key, body, failures)] = place
            for future in as_completed(asked):
                answer = future.result()
                if answer is not None:
                    answers[asked[future]] = answer
                    progress(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        drawing.missing = failures.reasons
        for place, answer in sorted(answers.items()):
            sample = self._sample(*jobs[place], answer)
            drawing.tokens += sample.n_tokens or 0
            if jobs[place][0].key not in drawing.missing:
                drawing.samples.append(sample)
        return drawing

    def _at_once(self, form: Form) -> int:
        return self.concurrency or AT_ONCE[form.fields]

    def _try(self, form: Form, key: Key, body: dict[str, Any], failures: _Failures) -> Answer | None:
        """The answer, or None where its prompt is lost already or is now."""
        if failures.is_lost(key):
            return None
        try:
            answer = self._answer(form, body)
        except (Refused, Unanswered) as error:
            failures.add(key, error)
            return None
        failures.in_a_row = 0
        return answer

    def _answer(self, form: Form, body: dict[str, Any], retries: int | None = None) -> Answer:
        return self.client.ask(form.path, body, self.writer.read, retries=retries)

    def _sample(self, request: Request, index: int, answer: Answer) -> Sample:
        if answer.tokens is not None and answer.reasoning is None:
            return from_ids(self.renderer, request, index, answer.tokens, answer.finish)
        return from_text(
            self.renderer,
            request,
            index,
            answer.text,
            answer.finish,
            n_tokens=answer.n_tokens,
            reasoning=answer.reasoning,
        )


class _Failures:
    """Prompts that could not be drawn. A server that is gone is not waited for once a prompt."""

    def __init__(self, concurrency: int) -> None:
        self.reasons: dict[Key, str] = {}
        self.in_a_row = 0
        self._enough = max(8, concurrency)
        self._gone = ""
        self._lock = threading.Lock()

    def add(self, key: Key, error: Refused | Unanswered) -> None:
        with self._lock:
            self.reasons.setdefault(key, str(error))
            if isinstance(error, Unanswered):  # a refusal costs no time, and is the prompt's own
                self.in_a_row += 1
            if self.in_a_row >= self._enough:
                self._gone = f"not asked for: {self.in_a_row} requests before it failed in a row, the last with {error}"

    def is_lost(self, key: Key) -> bool:
        with self._lock:
            if self._gone:
                self.reasons.setdefault(key, self._gone)
            return key in self.reasons
