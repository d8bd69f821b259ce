"""The package's dependencies, read from requirements.txt when it is built, so that they are written once."""

from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

TRAIN_HEADING = "# [train]"
"""Above this line is what `pip install .` installs, below it what `pip install '.[train]'` adds."""


class Dependencies(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        text = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8")
        light, heading, train = text.partition(TRAIN_HEADING)
        if not heading:
            raise ValueError(f"requirements.txt has no line that starts with {TRAIN_HEADING!r}.")
        metadata["dependencies"] = _requirements(light)
        metadata["optional-dependencies"] = {"train": _requirements(train.partition("\n")[2])}


def _requirements(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]
