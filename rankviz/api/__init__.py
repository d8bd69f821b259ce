"""Every operation, once: the page, the HTTP endpoints and the command line all call these.

Nothing is computed here. What only some operations need (the run store, the supervisor, the Hub) is imported when it
is first asked for, so that an estimate from the command line loads the core and one model's row.
"""

from rankviz.api.estimates import AdapterDetail, Estimates
from rankviz.api.export import TakeAway
from rankviz.api.runs import ExpectedSweep, Runs
from rankviz.api.studies import PublishedEvidence
from rankviz.api.trained import Adapters
from rankviz.api.verdicts import Verdicts
from rankviz.api.workspace import ASSETS, EMBEDDED, EMBEDDED_MODEL

__all__ = ["ASSETS", "EMBEDDED", "EMBEDDED_MODEL", "AdapterDetail", "Api", "ExpectedSweep"]


class Api(PublishedEvidence, Estimates, Verdicts, Runs, TakeAway, Adapters):
    """All operations on one runs folder."""
