"""Says that examples are longer than the maximum length, in the same words for an estimate and for what is exported."""

import math

from rankviz.core.cost.data import TrainingData
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.note import Caution
from rankviz.core.quantity import Range


def truncation(setup: TrainingSetup) -> Caution | None:
    """None where no example is known to be longer."""
    data, limit = setup.data, setup.max_length
    if data is None or not data.truncates(limit):
        return None
    return Caution(
        f"Examples above the maximum length of {limit:,} tokens are truncated: {truncated_in_words(data, limit)}. To "
        "learn them whole, raise the maximum length, which needs more memory, or split them."
    )


def truncated_in_words(data: TrainingData, limit: int) -> str:
    """ "5 to 10 % of the examples and 2 to 9 % of all tokens; the longest has 8,000", as far as it is known."""
    of = {_examples(data): data.truncated_examples(limit), "all tokens": data.truncated_tokens(limit)}
    shares = [f"{_share(share, data)} of {name}" for name, share in of.items() if share and _is_known(share)]
    has = "may have up to" if data.longest_is_upper else "has"
    longest = (
        f"the longest {has} {data.longest_tokens:,}" if data.longest_tokens else f"the mean is {data.mean_tokens:,}"
    )
    return "; ".join(filter(None, [" and ".join(shares), longest]))


def _is_known(share: Range) -> bool:
    """Whether it says more than that it is a share."""
    return share.high > 0 and (share.low > 0 or share.high < 1)


def _examples(data: TrainingData) -> str:
    return "the examples" if data.examples is None else f"the {data.examples:,} examples"


def _share(share: Range, data: TrainingData) -> str:
    """In whole percent, widened; "about" where lengths are estimated from characters."""
    low, high = math.floor(100 * share.low + 1e-9), math.ceil(100 * share.high - 1e-9)
    about = "about " if data.lengths else ""
    return f"{about}{high} %" if low == high else f"{'up to' if low == 0 else f'{about}{low} to'} {high} %"
