"""Everything that leaves the machine when a run or a sweep is published: the place, the files and their cards.

This package does not access the network; worker/sending.py does. No path of the machine, no row of data, no held-out
prompt and no answer is published.
"""

import re
from dataclasses import dataclass, field

from rankviz.core.bounds import one_of
from rankviz.errors import InvalidSettingError, quoted
from rankviz.paths import is_hub_id

DATASET, ADAPTER, TRACKIO = KINDS = ("hub-dataset", "hub-adapter", "trackio")
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
"""Pattern of a Trackio project's name: characters that Trackio keeps in the name of its file."""
TOKEN = re.compile(r"[!-~]{8,500}")


@dataclass(frozen=True, slots=True)
class Token:
    """A Hugging Face access token. Its value is never printed, not even inside another object's repr."""

    value: str = field(repr=False)

    def validate(self) -> None:
        """Raise InvalidSettingError, without the text, unless the text can be a token."""
        if not TOKEN.fullmatch(self.value):
            raise InvalidSettingError(
                "This is not a Hugging Face token: it has 8 to 500 letters, digits and signs, without spaces."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """The place that a run or sweep is published to.

    to: hub-dataset, hub-adapter or trackio. name: the repository as owner/name, or the Trackio project. public: True
    where everybody may see a repository or Space that is created. space: owner/name of a Space for Trackio; empty for
    Trackio on this machine. base_model: Hub id of the base, for a run that was trained from a folder.
    """

    to: str
    name: str
    public: bool = False
    space: str = ""
    base_model: str = ""

    def validate(self) -> None:
        """Check the fields; raise InvalidSettingError for the first field that is not possible."""
        one_of(self.to, "Where to publish", KINDS)
        if self.to == TRACKIO and not PROJECT.fullmatch(self.name):
            raise InvalidSettingError(
                f"A Trackio project has at most 80 letters, digits, - and _ (got {quoted(self.name)})."
            )
        if self.space and self.to != TRACKIO:
            raise InvalidSettingError("A Space is for Trackio: leave it empty for a repository.")
        repository = "" if self.to == TRACKIO else self.name or "nothing"
        for what, name in (("repository", repository), ("Space", self.space), ("base model", self.base_model)):
            if name and not is_hub_id(name):
                raise InvalidSettingError(f"The {what} must be owner/name, as on the Hub (got {quoted(name)}).")
