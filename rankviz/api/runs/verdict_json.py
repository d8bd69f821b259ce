"""The verdict on a sweep, as the HTTP endpoints give it."""

from rankviz import verdict
from rankviz.api.runs.verdicts import SweepVerdict
from rankviz.verdict import VerdictJSON


class SweepVerdictJSON(VerdictJSON):
    """Which ranks of a sweep differ. Differences, `within` and the noise are in `unit`."""

    sweep_id: str


def verdict_json(answer: SweepVerdict, *, would_tell: bool = True) -> SweepVerdictJSON:
    """The verdict on a sweep, as rankviz.verdict has it; that on a table is its own."""
    said = verdict.verdict_json(answer.verdict, would_tell=would_tell)
    return {"sweep_id": answer.sweep_id, **said}
