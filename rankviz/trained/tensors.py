"""A safetensors file of adapter weights: its header, its tensors without a copy, and a new file in any of its dtypes.

safetensors' own reader for numpy knows no bf16, so the file is checked by the library and its data looked at through a
memory map; bf16 is the upper half of fp32.
"""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from rankviz.core.bounds import printable
from rankviz.errors import SHOWN, BadAdapterError, quoted

FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""The dtypes of factors, and how numpy holds them."""
DTYPES = {"F64": "fp64", "F32": "fp32", "BF16": "bf16", "F16": "fp16"}
NAMES = {dtype: code for code, dtype in DTYPES.items() if code != "F64"}
"""The dtypes that an adapter can be written in."""
WRITTEN_AS = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32", "I32": "int32",
    "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""What may be in the file, and its name for the writer; in the order in which the writer sorts the data."""
IN_FILE = list(WRITTEN_AS)
WIDTHS = {code: 1 if code == "BOOL" else int(code.strip("BFIU")) // 8 for code in IN_FILE}
MAX_NAME = 512
"""Characters of a tensor's name."""
LARGEST_FP16 = 65504.0
OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""The code of the system's error, in the words of one of safetensors."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor of a file, not read yet."""

    dtype: str
    """safetensors' code: F32, BF16, F16, ..."""
    shape: tuple[int, ...]
    start: int
    """Where its bytes are in the file."""
    end: int


class TensorFile:
    """A safetensors file, checked, with its data behind a memory map."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with safe_open(path, framework="numpy") as checked:
                self.metadata: dict[str, str] = dict(checked.metadata() or {})
        except (SafetensorError, OSError, ValueError) as error:
            why = printable(str(error), SHOWN)
            raise BadAdapterError(
                f"{path.name} is not a complete safetensors file ({why}): save or upload it again."
            ) from None
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        if long := next((name for name in header if len(name) > MAX_NAME), None):
            raise BadAdapterError(
                f"{path.name} has a tensor with a name of {len(long):,} characters, {quoted(long)}: at most {MAX_NAME} "
                "are read."
            )
        if odd := sorted({entry["dtype"] for entry in header.values()} - WRITTEN_AS.keys()):
            raise BadAdapterError(f"{path.name} holds {' and '.join(odd)}: save the adapter in fp32, bf16 or fp16.")
        self.tensors = {
            name: Tensor(
                dtype=entry["dtype"],
                shape=tuple(entry["shape"]),
                start=8 + length + entry["data_offsets"][0],
                end=8 + length + entry["data_offsets"][1],
            )
            for name, entry in header.items()
        }
        self.file_bytes = path.stat().st_size
        self._data = np.memmap(path, dtype=np.uint8, mode="r")

    def raw(self, name: str) -> np.ndarray:
        """A tensor's bytes as they are in the file."""
        tensor = self.tensors[name]
        return self._data[tensor.start : tensor.end]

    def floats(self, name: str) -> np.ndarray:
        """A tensor as fp32, or fp64 where it is that; without a copy where the file holds just this, aligned."""
        tensor = self.tensors[name]
        raw = self.raw(name)
        if tensor.start % WIDTHS[tensor.dtype]:
            raw = raw.copy()
        held = raw.view(FLOATS[tensor.dtype]).reshape(tensor.shape)
        if tensor.dtype == "BF16":
            return (held.astype(np.uint32) << 16).view(np.float32)
        return held.astype(np.float32) if tensor.dtype == "F16" else held


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """fp32 values in this dtype, rounded to the nearest."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype == "F16" and np.abs(values).max(initial=0.0) > LARGEST_FP16:
        raise BadAdapterError(f"fp16 cannot hold values above {LARGEST_FP16:,.0f}: choose bf16 or fp32.")
    return np.ascontiguousarray(values, dtype=FLOATS[dtype])


class NewTensor(NamedTuple):
    """A tensor to be written: its numbers, in that dtype or as bytes."""

    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray


def write(path: Path, tensors: Mapping[str, NewTensor], metadata: Mapping[str, str]) -> None:
    """A new safetensors file, as PEFT writes it. OSError where it cannot be written: the library's own has no code."""
    size = sum(tensor.values.nbytes for tensor in tensors.values())
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    specs = {
        name: TensorSpec(
            dtype=WRITTEN_AS[tensor.dtype],
            shape=tensor.shape,
            data_ptr=tensor.values.ctypes.data,
            data_len=tensor.values.nbytes,
        )
        for name, tensor in tensors.items()
    }
    try:
        serialize_file(specs, path, metadata=dict(metadata) or {"format": "pt"})
    except SafetensorError as error:
        if not (named := OS_ERROR.search(str(error))):
            raise
        number = int(named[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def file_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> int:
    """The size of the file that `write` would make of tensors of these dtypes and shapes, to the byte."""
    order = sorted(tensors, key=lambda name: (IN_FILE.index(tensors[name][0]), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata) or {"format": "pt"}}
    end = 0
    for name in order:
        dtype, shape = tensors[name]
        start, end = end, end + WIDTHS[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + end
