"""Holds what an exported training needs and the question does not have: seed, schedule, held-out rows."""

LEARNING_RATE = 2e-4
"""Unsloth's notebooks' own; whoever has a better one passes it."""
STEPS = 60
"""Where neither steps nor tokens are given."""
SEED = 3407
"""Unsloth's notebooks' own."""
SCHEDULER = "linear"
WEIGHT_DECAY = 0.0
"""Both as in RankViz's own runs, so that an exported training can be compared with them."""
HELD_OUT_SHARE = 0.05
"""Of the rows, for evaluation."""
EVAL_STEPS = 0.25
"""How often the held-out loss is computed, as a share of all steps: transformers and Axolotl take it so."""
LOGGING_STEPS = 10
