"""Runs exported scripts and notebooks as they are, one after the other in one process, and prints what each has trained
and saved.

    python tests/support/processes/run_scripts.py unsloth|cuda|plain < [folder, ...]

"cuda" is Unsloth's CUDA branch without a GPU (emulated_cuda.py); "plain" is without Unsloth.

Each folder holds the data, and train.py or train.ipynb, and is the working directory while that runs: of a notebook
the code cells in their order, but for the first, which installs. Prints a JSON object: for each folder its trainable
parameters, the rates of the optimizer's groups, the held-out losses in their order, the text that the first row's
labels hold, the files of adapter and merged model, and what was printed; or the traceback. What TRL needs without a GPU
is done here: use_cpu, and the loss, a Triton kernel, computed by torch.
"""

import contextlib
import io
import json
import os
import re
import runpy
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

if sys.argv[1] == "unsloth":
    import unsloth  # noqa: F401
elif sys.argv[1] == "cuda":
    from tests.support.engines import emulated_cuda

    emulated_cuda.install()
else:
    import torch
    import trl
    from trl.trainer import utils

    class TorchLogProbs:
        """TRL's fused head without its kernel: (log-probabilities, entropy, -, -, whether the label is the likeliest)
        of each token, from all logits at once."""

        @staticmethod
        def apply(hidden, weight, bias, labels, temperature, chunk, softcap, scale, outputs):
            logits = torch.nn.functional.linear(hidden, weight.to(hidden.dtype), bias).float() * scale
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            log_probs = torch.log_softmax(logits / temperature, dim=-1)
            entropy = -(log_probs.exp() * log_probs).sum(-1).detach()
            chosen = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            return chosen, entropy, None, None, logits.argmax(-1) == labels

    utils._ChunkedLogProbFunction = TorchLogProbs
    trl.SFTConfig, trl.GRPOConfig = partial(trl.SFTConfig, use_cpu=True), partial(trl.GRPOConfig, use_cpu=True)


def run_cells(notebook: str) -> dict[str, Any]:
    """The names that the cells leave."""
    cells = [cell for cell in json.loads(Path(notebook).read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells[1:]:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    return names


def run(folder: Path) -> dict[str, Any]:
    os.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names = (
            runpy.run_path("train.py", run_name="__main__") if Path("train.py").exists() else run_cells("train.ipynb")
        )
    trainer = names.get("trainer")
    optimizer = trainer.optimizer if trainer else names["optimizer"]
    optimizer = getattr(optimizer, "optimizer", optimizer)  # under accelerate's
    model = trainer.model if trainer else names["model"]
    if "reward" in names:
        entries = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
        pairs = [p for name, p in model.named_parameters() if "lora_B" in name and p.requires_grad]
        return {
            "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            "steps": trainer.state.global_step,
            "rewards": entries,
            "moved": all(bool(parameter.any()) for parameter in pairs),
            "files": {path.name: path.stat().st_size for path in (folder / "adapter").iterdir()},
        }
    rows = trainer.train_dataset if trainer else names["data"]["train"]
    held_out = trainer.eval_dataset if trainer else names["data"]["test"]
    tokenizer = trainer.processing_class if trainer else names["tokenizer"]
    if trainer:
        losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    else:
        losses = [float(loss) for loss in re.findall(r"held-out loss ([\d.]+)", printed.getvalue())]
    return {
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "losses": losses,
        "steps": trainer.state.global_step if trainer else names["max_steps"],
        "rows": len(rows),
        "loss_tokens": sum(label != -100 for part in (rows, held_out) for row in part for label in row["labels"][1:]),
        "longest": max(len(row["input_ids"]) for part in (rows, held_out) for row in part),
        "learned": tokenizer.decode([label for label in rows[0]["labels"] if label != -100]),
        "files": {path.name: path.stat().st_size for path in (folder / "adapter").iterdir()},
        "rates": [group.get("initial_lr") for group in optimizer.param_groups if group["params"]],
        "printed": printed.getvalue(),
        "merged": [path.name for path in (folder / "merged").glob("*")],
    }


results = {}
for each in json.load(sys.stdin):
    try:
        results[each] = run(Path(each))
    except Exception:
        results[each] = {"error": traceback.format_exc()}
with answer:
    json.dump(results, answer)
