"""From the text and token ids of an answer to a sample."""

from __future__ import annotations

from support.asked_server import PATH, after_check, draw, one, requests
from support.asked_server import renderer as renderer
from support.asked_server import short_pauses as short_pauses
from support.scripted import completion, serving, words

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.types import Decoding, Prompt


def test_how_a_sample_ended(renderer: Renderer) -> None:
    ended = one(renderer, completion(" it is", "stop", 3))
    assert (ended.text, ended.finish, ended.n_tokens) == (" it is", "eos", 3)
    cut = one(renderer, completion(" it is", "length", 12))
    assert (cut.finish, cut.n_tokens, cut.answered) == ("length", 12, True)
    for told in ({"stop_reason": "\n\n"}, {"matched_stop": "\n\n"}):
        assert one(renderer, completion(" it is", "stop", 4, **told), stop=("\n\n",)).finish == "stop"
    left_in = one(renderer, completion(" it is\n\n", "stop", 4), stop=("\n\n",))
    assert (left_in.text, left_in.finish, left_in.n_tokens) == (" it is", "stop", 4)
    assert one(renderer, completion(" it is", "stop", None)).n_tokens == len(renderer.tokenizer(" it is").input_ids) + 1


def test_a_text_that_ran_past_its_stop_string_is_cut_and_counted_again(renderer: Renderer) -> None:
    ran = one(renderer, completion(" it is\n\nthree and so on", "length", 12), stop=("is\n\nth", "\n\n"))
    assert (ran.text, ran.finish) == (" it ", "stop")
    assert ran.n_tokens == len(renderer.tokenizer(" it is\n\nth").input_ids)


def test_reasoning_is_split_off_and_special_tokens_dropped(renderer: Renderer) -> None:
    whole = one(renderer, completion("<think>two plus\n\ntwo</think> four<eos><|im_end|>", "stop", 9), stop=("\n\n",))
    assert (whole.text, whole.reasoning, whole.answered) == ("four", "two plus\n\ntwo", True)
    cut = one(renderer, completion("two plus", "length", 12), prompt="what is <think>", stop=("\n\n",))
    assert (cut.text, cut.reasoning, cut.answered) == ("", "two plus", False)


def test_token_ids_are_taken_before_text(renderer: Renderer) -> None:
    ids = renderer.tokenizer(" three").input_ids
    sample = one(renderer, completion("not this", "stop", 99, token_ids=[*ids, 2]))
    assert (sample.text, sample.finish, sample.n_tokens) == (" three", "eos", len(ids) + 1)
    open_end = one(renderer, completion("not this", "length", 99, token_ids=ids))
    assert (open_end.finish, open_end.n_tokens) == ("length", len(ids))
    other_end = one(renderer, completion("", "stop", 99, token_ids=[*ids, 8], stop_reason=8))
    assert (other_end.text, other_end.n_tokens) == (" three", len(ids) + 1)
    stops = renderer.tokenizer(" three\n\nis it").input_ids
    ran_on = one(renderer, completion("", "stop", 99, token_ids=stops, stop_reason="\n\n"), stop=("\n\n",))
    assert (ran_on.text, ran_on.finish) == (" three", "stop")
    assert ran_on.n_tokens == len(renderer.tokenizer(" three\n\n").input_ids)


def test_a_stop_string_is_not_sent_where_reasoning_would_meet_it(renderer: Renderer) -> None:
    asked = requests(renderer, stop=("\n\n",))
    thinking = Request(renderer.render("sums", Prompt("t", "what is <think>")), Decoding(12, stop=("\n\n",)), 1)
    with serving({PATH: words}) as seen:
        server = after_check(renderer, seen, asked)
        draw(server, [thinking])
        assert "stop" not in seen.bodies[-1]
        draw(server, asked)
        assert seen.bodies[-1]["stop"] == ["\n\n"]
