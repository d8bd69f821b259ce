"""Titles and labels of runs and sweeps, their locations, and reasons why runs wait."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.units import counted


def sweep_title(sweep: Sweep) -> str:
    """Return "SmolLM2-135M-Instruct on phonemes, r = 4, 16"; for a fast curve with "(r = 16 truncated to 1, 2)"."""
    request = sweep.runs[0].request
    ranks = tuple(dict.fromkeys(run.request.r for run in sweep.runs))
    lower = next((run.request.cut_ranks for run in sweep.runs if run.request.cut_ranks), ())
    title = f"{base_name(request.base)} on {data_name(request.data)}, r = {', '.join(map(str, ranks))}"
    truncated = f" (r = {max(ranks)} truncated to {', '.join(map(str, sorted(lower)))})" if lower else ""
    return f"{title}{truncated}"


def still_training(sweep: Sweep) -> str:
    """Say that a sweep cannot be judged yet, with its number of ended runs; empty where all have ended."""
    if sweep.ended:
        return ""
    ended = sum(run.state.ended for run in sweep.runs)
    return f"Still training: {ended} of {counted(len(sweep.runs), 'run')} ended. Ranks are compared when all have."


def told_apart(sweeps: Sequence[Sweep], *names: Callable[[Sweep], str]) -> Mapping[str, str]:
    """Return a distinct name for each sweep, by sweep id. names: Functions that make a name, from short to long. The
    first one with different names for all sweeps is used; if there is none, the last one with the id appended."""
    for name in (*names, lambda sweep: f"{names[-1](sweep)} ({sweep.sweep_id})"):
        by_id = {sweep.sweep_id: name(sweep) for sweep in sweeps}
        if len(set(by_id.values())) == len(by_id):
            break
    return by_id


def base_name(base: str) -> str:
    """Return a model's own name, without owner or folder."""
    return "SmolLM2-135M-Instruct" if base == "embedded" else base.rstrip("/").rsplit("/", 1)[-1]


def data_name(data: str) -> str:
    """Return a sample's id, or a file's name without the fingerprint that the store puts before it."""
    name = data.rsplit("/", 1)[-1]
    digest, _, rest = name.partition("-")
    return rest if rest and len(digest) == 16 else name


def run_labels(sweep: Sweep) -> Mapping[str, str]:
    """Return short labels of a sweep's runs, by run id."""
    by_rate = len({run.request.learning_rate for run in sweep.runs}) > 1
    by_seed = len({run.request.seed for run in sweep.runs}) > 1
    return {
        run.run_id: f"r = {run.request.r}"
        + (f", lr {run.request.learning_rate:g}" if by_rate else "")
        + (f", seed {run.request.seed}" if by_seed else "")
        for run in sweep.runs
    }


def made_of(sweep: Sweep) -> str:
    """Return how a sweep differs from other sweeps of its model: "phonemes, 400 steps"."""
    request = sweep.runs[0].request
    return f"{data_name(request.data)}, {counted(request.max_steps, 'step')}"


TITLES = {LOCAL: "this machine", HF_JOBS: "Hugging Face Jobs", RAY: "Ray cluster", SLURM: "Slurm cluster"}


class Place(NamedTuple):
    """Location at which a run trains: an engine and a machine."""

    engine: str = ""
    where: str = ""
    """Name of the machine to show: "GPU 1", "node-3", "l4x1". Empty, or the engine's title, where not known."""

    @property
    def in_words(self) -> str:
        """Text such as "Ray cluster, node-0"; empty where nothing is known."""
        return ", ".join(dict.fromkeys(filter(None, [title(self.engine), self.where])))


def title(engine: str) -> str:
    """Return an engine's title, as within a sentence."""
    return TITLES.get(engine, engine)


AFTER_OTHERS = "It starts when another run of its sweep has ended."


def why_it_waits(run: RunRecord, sweep: Sweep, *, has_job: bool) -> Iterator[str]:
    """Yield sentences on why a queued run has not started; none where it has started or only waits for its turn.
    has_job: True where an engine has started a job that will train the run."""
    if run.state is not RunState.QUEUED:
        yield "" if run.state.ended else run.waits
        return
    if run.lost:
        yield f"The last attempt was lost: {run.lost}"
    starting = f"Its worker is starting{f' on {run.where}' if run.where else ''}." if has_job else ""
    yield run.waits or (AFTER_OTHERS if sweep.running else starting)


def cancel_in_words(runs: Sequence[RunRecord]) -> str:
    """Return a sentence that the cancellation of these runs was requested."""
    cost = ", and costs," if any(run.engine == HF_JOBS for run in runs) else ""
    return f"A cancel was requested. The job goes on{cost} until that is done."
