"""The answers to a few held-out prompts before and after training, side by side."""

from typing import NamedTuple

from rankviz.core.runs.events import MAX_ANSWER_CHARACTERS, Answered, GreedyAnswer
from rankviz.core.runs.request import MAX_SHOWN_ANSWERS


class HeldOutAnswer(NamedTuple):
    """One held-out prompt."""

    place: int
    """Among the held-out examples; the same prompt has the same place in all runs of a sweep."""
    prompt: str
    reference: str
    before: GreedyAnswer | None
    """The base's; None where it was not answered."""
    after: GreedyAnswer | None
    """The trained adapter's; None before training has ended."""


def before_and_after(before: Answered | None, after: Answered | None) -> tuple[HeldOutAnswer, ...]:
    """By place, bounded in number and length, since a journal may come from elsewhere."""
    first, then = (
        {each.place: _bounded(each) for each in answered.answers} if answered else {} for answered in (before, after)
    )
    places = sorted(first.keys() | then.keys())[:MAX_SHOWN_ANSWERS]
    prompts = {**then, **first}
    return tuple(
        HeldOutAnswer(place, prompts[place].prompt, prompts[place].reference, first.get(place), then.get(place))
        for place in places
    )


def readable(text: str) -> str:
    """The start of a text, with lone surrogates replaced: JSON can spell them, but no page and no file can hold
    them."""
    shown = text if len(text) <= MAX_ANSWER_CHARACTERS else text[: MAX_ANSWER_CHARACTERS - 1] + "…"
    return shown.encode("utf-8", "replace").decode("utf-8")


def _bounded(answer: GreedyAnswer) -> GreedyAnswer:
    prompt, reference, text = map(readable, (answer.prompt, answer.reference, answer.text))
    return GreedyAnswer(place=answer.place, prompt=prompt, reference=reference, text=text, ended=answer.ended)
