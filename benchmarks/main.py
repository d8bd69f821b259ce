"""Speed and size, as ratios within one run where possible. `make bench`, or `make bench page cli` for some.

Nothing here fails: the machines are noisy, so it prints what it saw.
"""

import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.measured import measured, when_and_where  # noqa: E402

PEFT_MODELS = ("HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B")
SWEEP_RANKS = (4, 8, 16, 32)
SWEEP_STEPS = 10


def bench_estimate() -> None:
    """Nine ranks in process, for every catalogue model; PEFT on the meta device for some, in the same run."""
    from benchmarks.start import RANKS
    from rankviz.api import Api
    from rankviz.core.cost.question import Question
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.lora.config import LoraConfig

    api = Api()
    api.estimates.estimate(
        Question(model_id="Qwen/Qwen3-4B", lora=LoraConfig(target_modules="all-linear"), gpu="L4")
    )  # reads the GPU table and the constants
    first, again = {}, {}
    for row in api.models.all():
        # PEFT refuses all-linear on Mamba hybrids.
        targets = "attention" if "Nemotron" in row.id else "all-linear"
        lora, training = LoraConfig(target_modules=targets), TrainingSetup(framework="peft")
        question = Question(model_id=row.id, ranks=RANKS, lora=lora, training=training, gpu="A100-80GB (SXM)")
        api.models.get(row.id)
        gc.disable()
        start = time.perf_counter()
        api.estimates.estimate(question)
        first[row.id] = time.perf_counter() - start
        again[row.id] = min(_timed(lambda q=question: api.estimates.estimate(q)) for _ in range(20))
        gc.enable()
    for name, seconds in (("first time", first), ("again", again)):
        slowest = max(seconds, key=seconds.get)
        print(
            f"estimate, nine ranks, {name}: median {statistics.median(seconds.values()) * 1e3:.3f} ms, "
            f"slowest {seconds[slowest] * 1e3:.3f} ms ({slowest}); {len(seconds)} models"
        )
    _bench_fit(api)
    for model_id in PEFT_MODELS:
        peft_seconds, peft_parameters = _peft_count(model_id)
        question = Question(
            model_id=model_id,
            ranks=(16,),
            lora=LoraConfig(target_modules="all-linear"),
            training=TrainingSetup(framework="peft"),
        )
        ours = min(_timed(lambda q=question: api.estimates.estimate(q)) for _ in range(20))
        (rank,) = api.estimates.estimate(question).estimate.ranks
        same = "equal" if rank.adapter_parameters == peft_parameters else "DIFFERENT"
        print(
            f"PEFT on the meta device, {model_id}, r 16: {peft_seconds * 1e3:.0f} ms, "
            f"{peft_seconds / ours:,.0f} times ours ({ours * 1e3:.3f} ms); counts {same}"
        )


def _bench_fit(api) -> None:
    """The whole fit section for one rank, with every GPU of the table, for every catalogue model."""
    from rankviz.core.cost.question import Question
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.lora.config import LoraConfig

    first, again = {}, {}
    for row in api.models.all():
        targets = "attention" if "Nemotron" in row.id else "all-linear"
        lora = LoraConfig(target_modules=targets)
        question = Question(model_id=row.id, lora=lora, training=TrainingSetup(framework="trl"), gpu="L4")
        api.models.get(row.id)
        first[row.id] = _timed(lambda q=question: api.estimates.fit(q, 16))
        again[row.id] = min(_timed(lambda q=question: api.estimates.fit(q, 16)) for _ in range(5))
    for name, seconds in (("first time", first), ("again", again)):
        slowest = max(seconds, key=seconds.get)
        print(
            f"fit section, one rank, {len(api.workspace.gpus)} GPUs, {name}: "
            f"median {statistics.median(seconds.values()) * 1e3:.1f} ms, "
            f"slowest {seconds[slowest] * 1e3:.1f} ms ({slowest})"
        )


def bench_studies() -> None:
    """Studies and advice for every model and use case, in process: counted, and with the page's three figures."""
    from rankviz.api import Api
    from rankviz.core.advice.use_case import NAMES, Goal
    from rankviz.core.cost.question import Question
    from rankviz.core.cost.setup import TrainingData, TrainingSetup
    from rankviz.core.lora.config import LoraConfig
    from rankviz.ui.explore import sections

    with tempfile.TemporaryDirectory() as home:
        api = Api(home=Path(home))
        first = _timed(
            lambda: api.advice.advise(
                Question(model_id="Qwen/Qwen3-4B", lora=LoraConfig(target_modules="all-linear"), gpu="L4"), Goal()
            )
        )
        warm = {"model": "gpt2", "use_case": "complex", "r": 16, "dora": True, "rslora": True}
        sections.shown_studies(api, **warm)  # loads plotly
        advice, near, drawn = {}, {}, {}
        for row in api.models.all():
            for name in NAMES:
                goal, data = Goal(use_case=name, forgetting=True), TrainingData(examples=20_000, mean_tokens=300)
                setup = TrainingSetup(framework="peft", max_steps=1000, data=data)
                question = Question(model_id=row.id, gpu="L4", training=setup)
                api.models.get(row.id)
                choices = {"model": row.id, "use_case": name, "r": 16, "dora": True, "rslora": True}
                advice[row.id, name] = _timed(lambda q=question, g=goal: api.advice.advise(q, g))
                near[row.id, name] = _timed(lambda i=row.id, n=name: _nearest_of_all(api, i, n))
                if name == "complex":
                    drawn[row.id, name] = _timed(lambda a=choices: sections.shown_studies(api, **a))
    for name, seconds in (("advice", advice), ("nearest studies", near), ("the section drawn", drawn)):
        slowest = max(seconds, key=seconds.get)
        print(
            f"{name}: median {statistics.median(seconds.values()) * 1e3:.1f} ms, "
            f"slowest {seconds[slowest] * 1e3:.1f} ms ({', '.join(slowest)}); {len(seconds)} choices"
        )
    print(f"first advice, with reading the studies: {first * 1e3:.0f} ms")


def _nearest_of_all(api, model_id: str, use_case: str) -> None:
    from rankviz.core.studies.lines import FACETS, LORA_METHODS

    for near in api.studies.near(api.studies.subject(model_id, use_case), LORA_METHODS, FACETS)[:12]:
        for line in near.lines:
            api.studies.parameters(line)


def _timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peft_count(model_id: str) -> tuple[float, int]:
    """Seconds (best of three) and trainable parameters, imports left out."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(ROOT / "assets/configs" / (model_id.replace("/", "__") + ".json"))
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        with torch.device("meta"):
            model = get_peft_model(
                AutoModelForCausalLM.from_config(config), LoraConfig(r=16, target_modules="all-linear")
            )
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        best = min(best, time.perf_counter() - start)
    return best, count


def bench_cli() -> None:
    """`python -m rankviz estimate … --json` from cold: wall time beside a Python that does nothing, and peak memory."""
    from benchmarks.start import cold_commands

    pair, peak = cold_commands(7)
    print(
        f"estimate --json, cold: median {statistics.median(pair.ours):.3f} s, slowest {max(pair.ours):.3f} s, "
        f"{statistics.median(pair.ours) / statistics.median(pair.bare):.1f} times bare Python, peak {peak / 1e6:.0f} MB"
    )


def bench_start() -> None:
    """Process start to the first HTTP 200, ours and a bare Gradio page in turn."""
    from benchmarks.start import page_starts

    with tempfile.TemporaryDirectory() as home:
        pair = page_starts(5, home)
    ratios = [a / b for a, b in zip(pair.ours, pair.bare, strict=True)]
    print(
        f"start to first 200: RankViz {statistics.median(pair.ours):.2f} s, bare Gradio "
        f"{statistics.median(pair.bare):.2f} s, ratio {statistics.median(ratios):.2f} "
        f"(from {min(ratios):.2f} to {max(ratios):.2f})"
    )


def bench_page() -> None:
    """The page in a browser, beside a bare Gradio page."""
    from benchmarks import page

    page.bench_page()


def bench_sweep() -> None:
    """A sweep of four ranks of the embedded model, and four separate Unsloth scripts with the same steps."""
    home = Path(os.environ.get("RANKVIZ_HOME") or tempfile.mkdtemp())
    env = {**os.environ, "RANKVIZ_HOME": str(home)}

    def cli(ranks: tuple[int, ...], steps: int) -> float:
        flags = [part for r in ranks for part in ("-r", str(r))]
        command = [sys.executable, "-m", "rankviz", "sweep", "embedded", "--data", "phonemes", "--seeds", "1", "--json"]
        return _timed(
            lambda: subprocess.run(
                [*command, *flags, "--steps", str(steps)], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL
            )
        )

    cli((4,), 1)  # unpacks the base and warms the disk cache for both sides
    script = ROOT / "benchmarks" / "unsloth_script.py"
    base = next((home / "models").glob("*/config.json")).parent
    separate = sum(
        _timed(
            lambda r=r: subprocess.run(
                [sys.executable, str(script), str(base), str(r), str(SWEEP_STEPS)],
                cwd=home,
                env=env,
                stdout=sys.stderr,
                check=True,
            )
        )
        for r in SWEEP_RANKS
    )
    ours = cli(SWEEP_RANKS, SWEEP_STEPS)
    print(
        f"sweep of ranks {SWEEP_RANKS}, {SWEEP_STEPS} steps each: {ours:.0f} s; four separate Unsloth scripts: "
        f"{separate:.0f} s; ratio {ours / separate:.2f}"
    )


def bench_adapters() -> None:
    """Spectrum and resize, beside dense SVD."""
    from benchmarks import adapters

    adapters.bench_adapters()


def bench_bounds() -> None:
    """A runs folder of 12,050 runs: lists, charts, verdicts, the supervisor, memory and an idle app."""
    from benchmarks import bounds

    bounds.bench_bounds()


def bench_fast() -> None:
    """A fast curve, beside independent runs and beside scripts."""
    from benchmarks import runs

    runs.bench_fast()


def bench_quick() -> None:
    """The default quick look, from nothing to its end."""
    from benchmarks import runs

    runs.bench_quick()


def bench_precision() -> None:
    """A training step with a bf16 base, beside fp32."""
    from benchmarks import runs

    runs.bench_precision()


def bench_engines() -> None:
    """Runs an hour on 1, 2, 4 and 8 places of each engine, beside what is ideal."""
    from benchmarks import engines

    engines.bench_engines()


def main() -> None:
    # The light ones first: a child's peak memory counts this process's own at the time it was started.
    benches = {
        "cli": bench_cli,
        "start": bench_start,
        "page": bench_page,
        "bounds": bench_bounds,
        "sweep": bench_sweep,
        "estimate": bench_estimate,
        "studies": bench_studies,
        "adapters": bench_adapters,
        "fast": bench_fast,
        "quick": bench_quick,
        "precision": bench_precision,
        "engines": bench_engines,
    }
    print(when_and_where([measured()]), flush=True)
    for name, bench in benches.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            bench()
    print(f"peak memory of this bench: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
