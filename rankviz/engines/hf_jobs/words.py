"""Why a run waits, and why it does not start."""

SENT = "It is sent to Hugging Face."
SCHEDULED = "Hugging Face looks for a free machine."
ONE_AT_A_TIME = "It waits for another job of its sweep to end: the spending limit of a sweep pays for one at a time."
NOT_KNOWN = (
    "It is not known yet whether Hugging Face has started it: the answer was lost. RankViz looks for it, and starts it "
    "again once it is listed nowhere for {}."
)
TOO_MANY_MISSING = (
    "Hugging Face was asked for a job of this sweep twice, and it is not known whether it has started them. Look at "
    "https://huggingface.co/settings/jobs, and resume the sweep later."
)
USED_UP = (
    "The spending limit of its sweep does not pay for another job. Resume the sweep with a higher limit, which is that "
    "of the whole sweep."
)
NO_PLACE = "It waits for another job to end: of all visitors together, {} run at the same time."
