"""How large the adapter of a published point is."""

from typing import NamedTuple


class AdapterSize(NamedTuple):
    """None is "not known". computed: not stated by the study, but counted from the base's layers."""

    parameters: int | None
    file_bytes: int | None
    computed: bool
