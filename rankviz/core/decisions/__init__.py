"""Decisions, not numbers alone: what fits, what each knob costs, what to change, which GPU to take.

Everything here asks core.estimate again with one thing changed; no formula lives here but that of full fine-tuning's
row, which core.full_finetuning works out. `decide` answers all of it for one rank.
"""

from rankviz.core.decisions.decide import Decisions, decide
from rankviz.core.decisions.decision_json import as_json

__all__ = ["Decisions", "as_json", "decide"]
