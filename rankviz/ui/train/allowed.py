"""Says beside the form whether anything can be trained and what a run may be, before someone asks for more."""

from collections.abc import Iterator

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.events import HF_JOBS
from rankviz.settings import paid_limits
from rankviz.ui.parts import html
from rankviz.ui.visitors import login_is_on
from rankviz.ui.wiring import notice_html


def cannot_train_html(api: Api) -> str:
    """Why nothing can be trained anywhere, and which login would change that; empty where something can be."""
    why = api.engines.why_none()
    can_log_in = why and (login_is_on() or not api.workspace.shared)
    # The same sentence twice where the disk is full.
    return notice_html(*dict.fromkeys([why, api.engines.why_not(HF_JOBS) if can_log_in else ""]))


def allowed_html(api: Api) -> str:
    """The limits of a shared page; nothing on a page of one's own."""
    if not api.workspace.shared:
        return ""
    limits = api.workspace.limits
    known = [
        f"{units.counted(limits.runs_per_sweep, 'run')} per sweep",
        f"{units.counted(limits.steps, 'step')} per run",
        f"rank {limits.rank:,}",
        limits.tokens_per_batch is not None and f"{limits.tokens_per_batch:,} tokens per batch (batch × max length)",
        limits.base_parameters is not None and f"a base of {units.count(limits.base_parameters)} parameters",
        limits.run_minutes is not None and f"{units.counted(limits.run_minutes, 'minute')} per run",
        limits.sweeps_per_visitor is not None and f"{units.counted(limits.sweeps_per_visitor, 'sweep')} at once",
    ]
    shared = f"This page is shared. It allows at most: {', '.join(part for part in known if part)}."
    return html.paragraphs(shared, *_where_you_pay(api))


def _where_you_pay(api: Api) -> Iterator[str]:
    if login_is_on():  # the account that pays
        steps = units.counted(paid_limits(api.workspace.limits).steps, "step")
        yield f"On Hugging Face Jobs, which you pay for: {steps} per run, and no limit on base, batch and minutes."
