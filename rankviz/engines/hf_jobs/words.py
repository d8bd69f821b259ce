"""Why a run waits, and why it does not start."""

SENT = "It is sent to Hugging Face."
NOT_DESCRIBED_YET = "Hugging Face is asked how its job does."
SCHEDULED = "Hugging Face looks for a free machine."
NO_PROBES = "A probe measures the machine that RankViz is on, and no machine is rented for one."
ONE_AT_A_TIME = "It waits for another job of its sweep to end: the spending limit of a sweep pays for one at a time."
NOT_KNOWN = (
    "It is not known yet whether Hugging Face has started it: the answer was lost. RankViz looks for it, and starts it "
    "again once it is listed nowhere for {}."
)
NOT_ASKED_YET = "Hugging Face has not answered yet that it starts the job. It is ended once that is known."
ANOTHER_ACCOUNT = (
    "Its job is of another account of Hugging Face than the one that is logged in now. Log in with that one, or give "
    "its token, and what the job did is read."
)
TOO_MANY_MISSING = (
    "Hugging Face was asked for two jobs of this sweep that it does not list, and it is not known whether they run. "
    "Look at https://huggingface.co/settings/jobs, and resume the sweep later."
)
USED_UP = (
    "The spending limit of its sweep does not pay for another job. Resume the sweep with a higher limit, which is that "
    "of the whole sweep."
)
NO_PLACE = "It waits for another job to end: of all visitors together, {} run at the same time."
