"""Decides which ranks differ, from each held-out example's loss or errors in each run.

Differences of two ranks are paired: the same examples, the same seed. Their intervals include the choice of examples
and the noise between runs, with one confidence for all pairs of ranks together. Nothing here trains, stores or draws.
"""

# ruff: noqa: F401 - what this module offers

from rankviz.verdict.judge import CANT_TELL, DIFFERENT, EQUAL, Pair, RankLoss, Verdict, VerdictJSON, judge, verdict_json
from rankviz.verdict.losses import RunLosses, base_loss_of, losses_of, read_table
from rankviz.verdict.words import Answer, headline, rate_note, sentences, shipped, summary
