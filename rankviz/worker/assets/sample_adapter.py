"""Writes assets/sample_adapter/ from a finished run: the adapter that the page and `rankviz spectrum sample` open.

    rankviz sweep embedded --data phonemes -r 16 --targets qv --steps 400 --seeds 1
    python -m rankviz.worker.assets.sample_adapter RUN_FOLDER

The journal is the run's own. The factors are rounded to bf16, which halves the file, and the base gets its Hub id for
the folder that it was loaded from.
"""

import json
import shutil
import sys
from pathlib import Path

from rankviz.paths import ASSETS
from rankviz.trained.files import CONFIG, WEIGHTS
from rankviz.trained.tensors import NewTensor, TensorFile, encode, write

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
JOURNAL = ("request.json", "events.jsonl")


def main(run: Path, assets: Path = ASSETS) -> Path:
    """The new folder. An earlier sample is replaced."""
    runs = assets / "sample_adapter" / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    target = runs / run.resolve().name
    (target / "adapter").mkdir(parents=True)
    for name in JOURNAL:
        shutil.copyfile(run / name, target / name)
    file = TensorFile(run / "adapter" / WEIGHTS)
    tensors = {
        name: NewTensor("BF16", tensor.shape, encode(file.floats(name), "BF16"))
        for name, tensor in file.tensors.items()
    }
    write(target / "adapter" / WEIGHTS, tensors, file.metadata)
    config = json.loads((run / "adapter" / CONFIG).read_text()) | {"base_model_name_or_path": BASE}
    (target / "adapter" / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return target


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
