"""The package's dependencies, read from the requirements files when it is built, so that they are written once."""

from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Dependencies(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        metadata["dependencies"] = self._listed("requirements.txt")
        extras = ("train", "png", "trackio", "ray", "mcp")
        metadata["optional-dependencies"] = {name: self._listed(f"requirements-{name}.txt") for name in extras}

    def _listed(self, name: str) -> list[str]:
        lines = (Path(self.root) / name).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#")]
