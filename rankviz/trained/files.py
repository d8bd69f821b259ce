"""Where an adapter's two files are: in a folder, side by side, or in a zip. Pickles are refused, sizes bounded."""

import json
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rankviz.core.bounds import printable
from rankviz.errors import OF_THE_DISK, SHOWN, BadAdapterError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
TRAINER_STATE = "trainer_state.json"
"""What transformers' Trainer saves beside the weights of a checkpoint."""
MAX_STATE_BYTES = 64_000_000
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
MAX_BYTES = 64 * 10**9
MAX_RATIO = 20
"""How many times its size a zip of more than SMALL_BYTES unpacks to at most: trained weights hardly shrink."""
SMALL_BYTES = 100 * 10**6
MAX_ZIP_MEMBERS = 10_000
UNZIPPING = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What zipfile and the libraries under it raise of a zip that is none."""
CONVERT = (
    "pickle files can run code when they are opened, so RankViz does not open them. Load the adapter where you trust "
    f"it and save it with PEFT's model.save_pretrained(folder), which writes {WEIGHTS}"
)


@dataclass(frozen=True)
class Located:
    """The two files of an adapter."""

    weights: Path
    config: Path
    name: str
    """A name for people: of the folder or the zip."""
    steps: int | None = None
    """Optimizer steps that it was trained for, where a trainer_state.json beside the weights says so."""
    held: Any = None
    """Keeps a zip's unpacked files while they are in use."""


def pack(folder: Path, target: Path) -> Path:
    """The two files of the adapter in `folder` as the zip `target`, in a folder of its name."""
    with zipfile.ZipFile(target, "w") as archive:  # stored: weights don't compress
        for name in (WEIGHTS, CONFIG):
            archive.write(folder / name, f"{target.stem}/{name}")
    return target


def locate(paths: Sequence[Path], *, max_bytes: int = MAX_BYTES) -> Located:
    """The adapter in a folder, in a zip, in a lone .safetensors with its config beside it, or as its files.

    Of a folder or a zip only these two files are read, and the number of steps from a trainer_state.json beside them.
    """
    if not paths:
        raise BadAdapterError(f"No adapter given: give its zip, or {WEIGHTS} and {CONFIG}.")
    for path in paths:
        if not path.exists():
            raise BadAdapterError(f"No file or folder {str(path)!r}: give a trained adapter's folder, zip or Hub id.")
        _refuse_pickle(path.name)
    if len(paths) == 1 and paths[0].is_dir():
        return _in_folder(paths[0], max_bytes)
    if len(paths) == 1 and paths[0].suffix == ".zip":
        return _in_zip(paths[0], max_bytes)
    weights = [path for path in paths if path.suffix == ".safetensors"]
    states = [path for path in paths if path.name == TRAINER_STATE]
    configs = [path for path in paths if path.suffix == ".json" and path not in states]
    if not weights and len(paths) == 1 and configs and (configs[0].parent / WEIGHTS).is_file():
        weights = [configs[0].parent / WEIGHTS]
    if len(weights) != 1:
        raise BadAdapterError(f"Give one {WEIGHTS} with its {CONFIG}, a zip of both, or their folder.")
    config = configs[0] if len(configs) == 1 else weights[0].parent / CONFIG
    state = states[0] if states else weights[0].parent / TRAINER_STATE
    return _checked(Located(weights[0], config, weights[0].parent.name or weights[0].stem, steps_in(state)), max_bytes)


def steps_in(state: Path) -> int | None:
    """The steps that a trainer_state.json counts; None where there is none, or none that says so."""
    if not state.is_file() or state.stat().st_size > MAX_STATE_BYTES:
        return None
    try:
        steps = json.loads(state.read_bytes())["global_step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def _refuse_pickle(name: str) -> None:
    if name.lower().endswith(PICKLES):
        raise BadAdapterError(f"{printable(name, SHOWN)}: {CONVERT}.")


def _in_folder(folder: Path, max_bytes: int) -> Located:
    if not (folder / WEIGHTS).is_file():
        for pickle in sorted(path for path in folder.iterdir() if path.name.lower().endswith(PICKLES)):
            _refuse_pickle(pickle.name)
        if any(folder.glob("model*.safetensors")):
            raise BadAdapterError(f"{folder} holds a whole model: give the adapter as it was before it was merged.")
        raise BadAdapterError(f"{folder} holds no {WEIGHTS}: give the folder that PEFT's save_pretrained wrote.")
    steps = steps_in(folder / TRAINER_STATE)
    return _checked(Located(folder / WEIGHTS, folder / CONFIG, folder.resolve().name, steps), max_bytes)


def _checked(located: Located, max_bytes: int) -> Located:
    if not located.config.is_file():
        raise BadAdapterError(
            f"{located.weights.name} has no {CONFIG} with its r and lora_alpha: give both files, or a zip of both."
        )
    size = located.weights.stat().st_size
    if size > max_bytes:
        raise BadAdapterError(f"{located.weights.name} has {size:,} bytes, more than the {max_bytes:,} allowed here.")
    return located


def _in_zip(path: Path, max_bytes: int) -> Located:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_ZIP_MEMBERS:
                raise BadAdapterError(f"{path.name} has {len(members):,} members: zip the adapter's folder alone.")
            wanted = [_member(members, path.name, file) for file in (WEIGHTS, CONFIG)]
            size = sum(member.file_size for member in wanted)
            if size > max_bytes:
                raise BadAdapterError(
                    f"{path.name} unpacks to {size:,} bytes, more than the {max_bytes:,} allowed here."
                )
            if size > max(SMALL_BYTES, MAX_RATIO * path.stat().st_size):
                raise BadAdapterError(
                    f"{path.name} unpacks to {size:,} bytes, more than {MAX_RATIO} times its own size: zip the "
                    "adapter's folder again."
                )
            unpacked = tempfile.TemporaryDirectory(prefix="rankviz-adapter-")
            for member, file in zip(wanted, (WEIGHTS, CONFIG), strict=True):
                _unpack(archive, member, Path(unpacked.name) / file)
            beside = str(PurePosixPath(wanted[0].filename).parent / TRAINER_STATE)
            for state in (m for m in members if m.filename == beside and m.file_size <= MAX_STATE_BYTES):
                _unpack(archive, state, Path(unpacked.name) / TRAINER_STATE)
    except (*UNZIPPING, OSError) as error:
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            raise
        raise BadAdapterError(f"{path.name} cannot be read as a zip ({error}): zip the folder again.") from None
    folder = Path(unpacked.name)
    steps = steps_in(folder / TRAINER_STATE)
    return _checked(Located(folder / WEIGHTS, folder / CONFIG, path.stem, steps, unpacked), max_bytes)


def _member(members: Sequence[zipfile.ZipInfo], zip_name: str, file: str) -> zipfile.ZipInfo:
    """The member of this name that lies least deep: beside an adapter there may be checkpoints of it."""
    named = [member for member in members if PurePosixPath(member.filename).name == file]
    if not named:
        if file == WEIGHTS:
            for member in members:
                _refuse_pickle(member.filename)
        raise BadAdapterError(f"{zip_name} holds no {file}: zip the folder that PEFT's save_pretrained wrote.")
    return min(named, key=lambda member: (member.filename.count("/"), member.filename))


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    # zipfile stops at the size that the member says, so a member with a false size cannot fill the disk.
    with archive.open(member) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 2**20)
