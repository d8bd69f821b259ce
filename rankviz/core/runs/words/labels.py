"""What sweeps and runs are called, in figures, tables and lists."""

from collections.abc import Callable, Mapping, Sequence

from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.units import counted


def sweep_title(sweep: Sweep) -> str:
    """ "SmolLM2-135M-Instruct on phonemes, r = 4, 16, 64"; of a fast curve "r = 64 truncated to 1, 2, 4".

    Where several ranks are trained, the title names the one that is truncated: "r = 2, 8 (r = 8 truncated to 4)".
    """
    request = sweep.runs[0].request
    ranks = tuple(dict.fromkeys(run.request.r for run in sweep.runs))
    lower = next((run.request.cut_ranks for run in sweep.runs if run.request.cut_ranks), ())
    title = f"{base_name(request.base)} on {data_name(request.data)}, r = {', '.join(map(str, ranks))}"
    if not lower:
        return title
    truncated = f"truncated to {', '.join(map(str, sorted(lower)))}"
    return f"{title} (r = {max(ranks)} {truncated})" if len(ranks) > 1 else f"{title} {truncated}"


def still_training(sweep: Sweep) -> str:
    """That a sweep is not to be judged yet, with how many of its runs have ended; empty where all have."""
    if sweep.ended:
        return ""
    ended = sum(run.state.ended for run in sweep.runs)
    return (
        f"Still training: {ended} of {counted(len(sweep.runs), 'run')} ended. Ranks are compared when all have ended."
    )


def sweep_label(sweep: Sweep) -> str:
    """The title, marked where the sweep ships with RankViz."""
    return sweep_title(sweep) + (" (recorded)" if sweep.recorded else "")


def told_apart(sweeps: Sequence[Sweep], *names: Callable[[Sweep], str]) -> Mapping[str, str]:
    """Names of sweeps by id: the first of these that tells all apart, else the last with the id."""
    for name in (*names, lambda sweep: f"{names[-1](sweep)} ({sweep.sweep_id})"):
        by_id = {sweep.sweep_id: name(sweep) for sweep in sweeps}
        if len(set(by_id.values())) == len(by_id):
            break
    return by_id


def base_name(base: str) -> str:
    """The model's own name, without its owner or folder."""
    return "SmolLM2-135M-Instruct" if base == "embedded" else base.rstrip("/").rsplit("/", 1)[-1]


def data_name(data: str) -> str:
    """The sample's id, or the file's name without the fingerprint that the store puts before it."""
    name = data.rsplit("/", 1)[-1]
    digest, _, rest = name.partition("-")
    return rest if rest and len(digest) == 16 else name


def run_label(run: RunRecord, sweep: Sweep) -> str:
    """The rank, and what else differs within the sweep."""
    return run_labels(sweep, [run])[run.run_id]


def run_labels(sweep: Sweep, runs: Sequence[RunRecord] | None = None) -> Mapping[str, str]:
    """The same of several runs, by their ids: of all of the sweep, or of these."""
    has_rates = len({run.request.learning_rate for run in sweep.runs}) > 1
    has_seeds = len({run.request.seed for run in sweep.runs}) > 1
    return {run.run_id: _label(run, has_rates, has_seeds) for run in (sweep.runs if runs is None else runs)}


def _label(run: RunRecord, has_rates: bool, has_seeds: bool) -> str:
    parts = [f"r = {run.request.r}"]
    if has_rates:
        parts.append(f"lr {run.request.learning_rate:g}")
    if has_seeds:
        parts.append(f"seed {run.request.seed}")
    return ", ".join(parts)


def made_of(sweep: Sweep) -> str:
    """What tells sweeps of one model apart: "phonemes, 400 steps"."""
    request = sweep.runs[0].request
    return f"{data_name(request.data)}, {counted(request.max_steps, 'step')}"
