"""What the measures of an adapter's spectrum mean."""

from typing import NamedTuple


class Term(NamedTuple):
    """meaning: in one or two sentences, without a name before them."""

    name: str
    meaning: str
    source: str


TERMS = (
    Term(
        "Energy",
        "The squared singular values of the update, scale · B·A: how much of the change to the weights a rank keeps. "
        "Truncation keeps the largest.",
        "Eckart and Young 1936",
    ),
    Term(
        "Effective rank",
        "How many singular values share the update: the exponential of their entropy.",
        "Roy and Vetterli 2007",
    ),
    Term(
        "Stable rank",
        "The energy of all singular values over that of the largest: 1 where one has all of it.",
        "Rudelson and Vershynin 2007",
    ),
)
