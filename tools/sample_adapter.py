"""Writes assets/sample_adapter/ from a finished run: the adapter that `rankviz spectrum sample` opens.

    rankviz sweep embedded --data phonemes -r 16 --targets qv --steps 400 --seeds 1
    python -m tools.sample_adapter HOME/runs/RUN

The journal is the run's own. The factors are rounded to bf16, which halves the file, and the base gets its Hub id for
the folder that it was loaded from. Then the adapter is truncated to lower ranks, and the held-out loss of each is
measured on the run's own examples, without any further training.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rankviz import dataset
from rankviz.paths import ASSETS
from rankviz.references import EMBEDDED_ID
from rankviz.store import RunStore
from rankviz.trained.files import CONFIG, WEIGHTS, decode, encode, write
from rankviz.trained.plan import plan
from rankviz.trained.read import read_adapter, resize, spectrum
from rankviz.worker.base import embedded_folder
from rankviz.worker.finetune.data import SweepData
from rankviz.worker.finetune.measure import evaluate

JOURNAL = ("request.json", "events.jsonl")
RANKS = (1, 2, 3, 8)


def main(run: Path, assets: Path = ASSETS) -> None:
    folder = assets / "sample_adapter"
    adapter = copy_run(run, folder)
    home = run.resolve().parent.parent
    losses = truncated_losses(adapter, RunStore(home).get(run.name).request, embedded_folder(home))
    (folder / "truncated.json").write_text(json.dumps(losses, indent=1) + "\n")


def copy_run(run: Path, folder: Path) -> Path:
    """The run and its adapter in bf16, in place of an earlier sample; returns the adapter's folder."""
    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    target = runs / run.resolve().name
    (target / "adapter").mkdir(parents=True)
    for name in JOURNAL:
        shutil.copyfile(run / name, target / name)
    adapter = read_adapter([run / "adapter"])
    tensors = {
        name: ("BF16", tensor.shape, encode(decode(adapter.raw(name), tensor), "BF16"))
        for name, tensor in adapter.outline.tensors.items()
    }
    write(target / "adapter" / WEIGHTS, tensors, adapter.outline.metadata)
    config = json.loads((run / "adapter" / CONFIG).read_text()) | {"base_model_name_or_path": EMBEDDED_ID}
    (target / "adapter" / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return target / "adapter"


def truncated_losses(folder: Path, request: Any, base: Path) -> dict[str, Any]:
    """The held-out loss of the adapter at its own rank and at RANKS, in nats per target token."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    data = SweepData(dataset.read(request.data), tokenizer, request.training.max_length, request.held_out_examples)
    adapter = read_adapter([folder])
    values = spectrum(adapter)
    losses = {}
    with tempfile.TemporaryDirectory() as space:
        for r in (*RANKS, adapter.r):
            at = (
                folder if r == adapter.r else resize(adapter, plan(adapter.outline, values, r=r), Path(space) / f"r{r}")
            )
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), at)
            result = evaluate(model, data.held_out, when="after", pad_token_id=tokenizer.pad_token_id)
            losses[str(r)] = round(result.loss, 4)
    return {"losses": losses, "examples": result.examples, "tokens": result.tokens}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
