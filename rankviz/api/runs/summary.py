"""What there is to say of one run: what was requested and measured, what it has cost so far, and the estimate."""

from dataclasses import dataclass
from pathlib import Path

from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import DeviceTime
from rankviz.core.runs.words import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run, and the estimate beside it."""

    record: RunRecord
    estimate: RunEstimate | None
    """None where its base model is not available."""
    device_time: DeviceTime
    """Of all its attempts until now."""
    place: Place
    """Where it is, is to be, or was."""
    folder: Path | None = None
    """Of the run: its request, journal, log and adapter. None on a shared page, whose visitors see no path of its
    machine, and of a run that RankViz ships."""

    @property
    def adapter_folder(self) -> Path | None:
        """Where the trained adapter is, as PEFT loads it; None where there is none, or no folder to show."""
        adapter = self.folder / self.record.adapter_path if self.folder and self.record.adapter_path else None
        return adapter if adapter and adapter.is_dir() else None
