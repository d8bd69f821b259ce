"""The form of Train with two ranks to sweep, as its widgets hold it."""

from rankviz.ui.train.form import DEFAULTS

FORM = {**DEFAULTS, "mode": "sweep", "ranks": ["16", "4"]}
