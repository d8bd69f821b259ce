"""Decides what fits, what each setting costs, what to change, and which GPU to choose.

Everything here asks core.cost.estimate again with one thing changed; the row of full fine-tuning comes from
core.cost.predict. `decide` answers all of it for one rank.
"""
