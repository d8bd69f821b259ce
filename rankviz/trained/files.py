"""The two files of an adapter: finds them, reads tensors without a copy, and writes new ones. Pickles are refused."""

import errno
import json
import lzma
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from rankviz.core.bounds import printable
from rankviz.errors import DISK_ERRNOS, SHOWN, BadAdapterError, quoted
from rankviz.trained.plan import WIDTHS, WRITTEN_AS, StoredTensor

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
MAX_BYTES = 64 * 10**9
MAX_RATIO = 20
"""Most unpacked bytes of a zip over its own bytes, for more than SMALL_BYTES: trained weights hardly compress."""
SMALL_BYTES = 100 * 10**6
MAX_ZIP_MEMBERS = 10_000
BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""Exceptions that zipfile, and the libraries it uses, raise for a broken zip."""


Located = tuple[Path, Path, str, Any]
"""(weights file, configuration file, name of their folder or zip to show, temporary folder of a zip's files or None).
The temporary folder exists as long as its object."""


def locate(paths: Sequence[Path], *, max_bytes: int = MAX_BYTES) -> Located:
    """Find an adapter in a folder, in a zip, as its two files, or as a .safetensors with its configuration in the same
    folder. Nothing else in a folder or a zip is read."""
    if not paths:
        raise BadAdapterError(f"No adapter given: give its zip, or {WEIGHTS} and {CONFIG}.")
    for path in paths:
        if not path.exists():
            raise BadAdapterError(f"No file or folder {str(path)!r}: give a trained adapter's folder, zip or Hub id.")
        _refuse_pickle(path.name)
    first = paths[0]
    if len(paths) == 1 and first.suffix == ".zip":
        weights, config, name, unpacked = _in_zip(first, max_bytes)
    elif len(paths) == 1 and first.is_dir():
        if not (first / WEIGHTS).is_file():
            for path in sorted(first.iterdir()):
                _refuse_pickle(path.name)
            raise BadAdapterError(
                f"{first} holds no {WEIGHTS}: give the folder that PEFT's save_pretrained wrote, before any merge."
            )
        weights, config, name, unpacked = first / WEIGHTS, first / CONFIG, first.resolve().name, None
    else:
        files, configs = ([path for path in paths if path.suffix == end] for end in (".safetensors", ".json"))
        if len(files) != 1 or len(configs) > 1:
            raise BadAdapterError(f"Give one {WEIGHTS} with its {CONFIG}, a zip of both, or their folder.")
        weights, unpacked = files[0], None
        config, name = (configs or [weights.parent / CONFIG])[0], weights.parent.name or weights.stem
    if not config.is_file():
        raise BadAdapterError(f"{weights.name} has no {CONFIG} with its r and lora_alpha: give both, or a zip.")
    if (size := weights.stat().st_size) > max_bytes:
        raise BadAdapterError(f"{weights.name} has {size:,} bytes, more than the {max_bytes:,} allowed here.")
    return weights, config, name, unpacked


def _refuse_pickle(name: str) -> None:
    if name.lower().endswith(PICKLES):
        raise BadAdapterError(
            f"{printable(name, SHOWN)}: pickle files can run code when they are opened, so RankViz does not open them. "
            "Load the adapter where you trust it and save it with PEFT's model.save_pretrained(folder), which writes "
            f"{WEIGHTS}."
        )


def _in_zip(path: Path, max_bytes: int) -> Located:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_ZIP_MEMBERS:
                raise BadAdapterError(f"{path.name} has {len(members):,} members: zip the adapter's folder alone.")
            wanted = [_member(members, path.name, file) for file in (WEIGHTS, CONFIG)]
            size, most = sum(member.file_size for member in wanted), max(SMALL_BYTES, MAX_RATIO * path.stat().st_size)
            if size > max_bytes:
                raise BadAdapterError(
                    f"{path.name} unpacks to {size:,} bytes, more than the {max_bytes:,} allowed here."
                )
            if size > most:
                raise BadAdapterError(
                    f"{path.name} unpacks to {size:,} bytes, more than {MAX_RATIO} times its own size: zip it again."
                )
            unpacked = tempfile.TemporaryDirectory(prefix="rankviz-adapter-")
            folder = Path(unpacked.name)
            for member in wanted:
                # zipfile stops at the size that the member says, so a member with a false size cannot fill the disk.
                with archive.open(member) as source, (folder / PurePosixPath(member.filename).name).open("wb") as out:
                    shutil.copyfileobj(source, out, 2**20)
    except (*BAD_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
            raise
        raise BadAdapterError(f"{path.name} cannot be read as a zip: zip the folder again.") from None
    return folder / WEIGHTS, folder / CONFIG, path.stem, unpacked


def _member(members: Sequence[zipfile.ZipInfo], zip_name: str, file: str) -> zipfile.ZipInfo:
    """Return the zip's member with this file name in the highest folder; lower folders may hold checkpoints."""
    named = [member for member in members if PurePosixPath(member.filename).name == file]
    if not named:
        for member in members if file == WEIGHTS else ():
            _refuse_pickle(member.filename)
        raise BadAdapterError(f"{zip_name} holds no {file}: zip the folder that PEFT's save_pretrained wrote.")
    return min(named, key=lambda member: (member.filename.count("/"), member.filename))


FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""numpy dtype for reading each floating-point dtype of safetensors."""
MAX_NAME = 512  # most characters of a tensor's name
LARGEST_FP16 = 65504.0


def open_tensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str], np.ndarray]:
    """Check a safetensors file; return its tensors by name, its metadata, and its memory-mapped bytes."""
    try:
        with safe_open(path, framework="numpy") as checked:
            metadata = dict(checked.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        raise BadAdapterError(f"{path.name} is not a complete safetensors file: save or upload it again.") from None
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    if long := next((name for name in header if len(name) > MAX_NAME), None):
        raise BadAdapterError(
            f"{path.name} has a tensor with a name of {len(long):,} characters, {quoted(long)} (at most {MAX_NAME})."
        )
    if odd := sorted({entry["dtype"] for entry in header.values()} - WRITTEN_AS.keys()):
        raise BadAdapterError(f"{path.name} holds {' and '.join(odd)}: save the adapter in fp32, bf16 or fp16.")
    tensors = {
        name: StoredTensor(entry["dtype"], tuple(entry["shape"]), *(8 + length + at for at in entry["data_offsets"]))
        for name, entry in header.items()
    }
    return tensors, metadata, np.memmap(path, dtype=np.uint8, mode="r")


def decode(raw: np.ndarray, tensor: StoredTensor) -> np.ndarray:
    """Return a tensor's values in fp32, or fp64 if stored so; without a copy where possible. raw: Its bytes."""
    if tensor.start % WIDTHS[tensor.dtype]:
        raw = raw.copy()
    stored = raw.view(FLOATS[tensor.dtype]).reshape(tensor.shape)
    if tensor.dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32) if tensor.dtype == "F16" else stored


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Convert fp32 values to a dtype (safetensors' code), rounded to the nearest."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype == "F16" and np.abs(values).max(initial=0.0) > LARGEST_FP16:
        raise BadAdapterError(f"fp16 cannot hold values above {LARGEST_FP16:,.0f}: choose bf16 or fp32.")
    return np.ascontiguousarray(values, dtype=FLOATS[dtype])


NewTensor = tuple[str, tuple[int, ...], np.ndarray]
"""(dtype, shape, values in this dtype or as raw bytes) of a tensor to be written."""


def write(path: Path, tensors: Mapping[str, NewTensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file as PEFT does; raise OSError with its code, which the library's error lacks."""
    if shutil.disk_usage(path.parent).free < sum(values.nbytes for *_, values in tensors.values()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    specs = {
        name: TensorSpec(dtype=WRITTEN_AS[dtype], shape=shape, data_ptr=values.ctypes.data, data_len=values.nbytes)
        for name, (dtype, shape, values) in tensors.items()
    }
    try:
        serialize_file(specs, path, metadata=dict(metadata) or {"format": "pt"})
    except SafetensorError as error:
        if not (code := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
