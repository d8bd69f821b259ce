"""Where something is published, and with whose token."""

import re
from dataclasses import dataclass

from rankviz.core.checks import one_of
from rankviz.errors import InvalidSettingError, quoted
from rankviz.paths import is_hub_id

DATASET, ADAPTER, TRACKIO = "hub-dataset", "hub-adapter", "trackio"
KINDS = (DATASET, ADAPTER, TRACKIO)
PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
"""Of a Trackio project: the characters that Trackio keeps in the name of its file."""
TOKEN = re.compile(r"[!-~]{8,500}")


@dataclass(frozen=True, slots=True)
class Token:
    """A Hugging Face access token. It is shown nowhere, also not where an object that holds it is printed."""

    value: str

    def __repr__(self) -> str:
        return "Token(...)"

    def validate(self) -> None:
        """InvalidSettingError, which does not repeat it, where it can be none."""
        if not TOKEN.fullmatch(self.value):
            raise InvalidSettingError(
                "This is not a Hugging Face token: it has 8 to 500 letters, digits and signs, without spaces."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Of what is published."""

    to: str
    """hub-dataset, hub-adapter or trackio."""
    name: str
    """Of the repository, owner/name; of the project in Trackio."""
    public: bool = False
    """Whether everybody may see a repository or Space that is made for it."""
    space: str = ""
    """Of Trackio, owner/name; empty for Trackio on this machine."""
    base_model: str = ""
    """The Hub id of the base, where it was trained from a folder."""

    def validate(self) -> None:
        """InvalidSettingError names what cannot be."""
        one_of(self.to, "Where to publish", KINDS)
        if self.to == TRACKIO:
            if not PROJECT.fullmatch(self.name):
                raise InvalidSettingError(
                    f"A Trackio project has at most 80 letters, digits, - and _ (got {quoted(self.name)})."
                )
        elif not is_hub_id(self.name):
            raise InvalidSettingError(f"The repository must be owner/name (got {quoted(self.name)}).")
        if self.space and self.to != TRACKIO:
            raise InvalidSettingError("A Space is for Trackio: leave it empty for a repository.")
        if self.space and not is_hub_id(self.space):
            raise InvalidSettingError(f"The Space must be owner/name (got {quoted(self.space)}).")
        if self.base_model and not is_hub_id(self.base_model):
            raise InvalidSettingError(
                f"The base model must be owner/name, as on the Hub (got {quoted(self.base_model)})."
            )

    @property
    def needs_token(self) -> bool:
        """Whether it leaves this machine."""
        return self.to != TRACKIO or bool(self.space)
