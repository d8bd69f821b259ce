"""The model catalogue: an index of all models, one file per model with its layers, and their config.json files."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rankviz.catalog import read_json, read_rows
from rankviz.core.model.spec import WHOLE, ModelSpec, UnslothCheckpoint, model_from_json
from rankviz.core.model.towers import COPY
from rankviz.errors import UnknownModelError, quoted
from rankviz.paths import id_in, is_hub_id

CHECKPOINTS = "unsloth_4bit.json"
IMAGE_PROCESSORS = "image_processors.json"
REMEDY = "run `make assets`, or reinstall RankViz"
SUGGESTIONS = 3
SIMILARITY = 0.6  # least similarity, 0 to 1 by difflib, of a name that is suggested for an unknown one


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)  # a name is looked up by the hash of all rows
class ModelRow:
    """One model of the catalogue, as lists on the page show it."""

    id: str
    name: str
    family: str
    total_parameters: int
    tower: str  # kind of model, as in ModelSpec: "text", "text tower" or "whole model"
    verified: bool
    licence: str | None
    gated: bool | None
    file: str  # file name in assets/models
    aliases: tuple[str, ...] = ()


@functools.cache
def load_index(assets: Path) -> tuple[ModelRow, ...]:
    """Return every model of the catalogue, in order of family and size."""
    rows = read_json(assets / "models" / "index.json", REMEDY)["models"]
    return tuple(ModelRow(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows)


def load_model(assets: Path, ref: str) -> ModelSpec:
    """Return the model of an id or alias, with the checkpoint that Unsloth loads for this name in 4 bit; without one
    where Unsloth quantizes the name's own files instead."""
    rows, (loaded, sized) = load_index(assets), _checkpoints(assets)
    row, name = find_model(rows, ref), full_name(rows, ref)
    whole = next((_load_row(assets, each) for each in rows if each.id == row.id + WHOLE), None)
    repository = loaded.get(name.lower(), name)
    checkpoint = sized.get(repository.lower()) or UnslothCheckpoint(repository=repository)
    is_another = repository.lower() != name.lower() or checkpoint.quantized or checkpoint.stays_16_bit
    return replace(_load_row(assets, row), unsloth_checkpoint=checkpoint if is_another else None, whole=whole)


@functools.cache
def _load_row(assets: Path, row: ModelRow) -> ModelSpec:
    return model_from_json(read_json(assets / "models" / row.file, REMEDY))


@functools.cache
def _checkpoints(assets: Path) -> tuple[Mapping[str, str], Mapping[str, UnslothCheckpoint]]:
    """Return the two tables that `python -m tools.names` writes, with names in lower case: the repository that is
    loaded in place of each name, and the checkpoint of each repository whose size is known."""
    table, fields = read_json(assets / "models" / CHECKPOINTS, REMEDY), ("repository", "file_bytes", "at_most_bytes")
    loaded = {name.lower(): repository for repository, names in table["loaded"].items() for name in names}
    sizes = (UnslothCheckpoint(**{name: row[name] for name in fields}) for row in table["sizes"])
    return loaded, {each.repository.lower(): each for each in sizes}


def with_image_processor(assets: Path, model: ModelSpec) -> ModelSpec:
    """Return a whole model with the rule of its image processor, by model_type and size of its tower's patches; other
    models, and those of families without a rule, unchanged."""
    vision = [each for each in model.layers if each.part == "vision"]
    if model.tower != "whole model" or not vision:
        return model
    patch = next((each.kernel[-1] for each in vision if each.kernel), None)
    rows = (row for row in read_rows(assets / IMAGE_PROCESSORS, "processors") if model.model_type in row["model_types"])
    rule = next((row for row in rows if row.get("tower_patch") in (None, patch)), None)
    return replace(model, image_processor=rule)


def find_model(rows: Sequence[ModelRow], ref: str) -> ModelRow:
    """Return the model with this id or alias; case is ignored, and the owner may be left out if the name is unique."""
    if not is_known(rows, ref):
        raise UnknownModelError(ref, close_names(rows, ref))
    return _names(tuple(rows))[ref.lower().rstrip("/")].row


def is_known(rows: Sequence[ModelRow], ref: str) -> bool:
    """Tell whether `find_model` finds a model for this text."""
    return ref.lower().rstrip("/") in _names(tuple(rows))


def full_name(rows: Sequence[ModelRow], ref: str) -> str:
    """Return the Hub id that a name means: the id or alias itself, or the first id or alias that ends in the name."""
    find_model(rows, ref)
    return _names(tuple(rows))[ref.lower().rstrip("/")].text.removesuffix(WHOLE)


WORD = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)*[^\W\d_]*")
"""Pattern of a word of a name: letters, or a number with the letters behind it. "Qwen3-4B" is "qwen", "3" and "4b"."""
NO_SIGN = frozenset({"meta", "hf"})  # words that some owners write into the name of the same model


class Name(NamedTuple):
    """An id or alias of a model."""

    text: str
    row: ModelRow
    words: frozenset[str]  # words of the name, without its owner and its format
    searched: str  # these words in their order, and behind a slash those of format, owner, family and licence
    is_copy: bool  # true for a copy in another format, such as 4 bit


def words_in(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.casefold()))


@functools.cache
def _every_name(rows: tuple[ModelRow, ...]) -> tuple[Name, ...]:
    names = []
    for row, text in [(each, text) for each in rows for text in (each.id, *each.aliases)]:
        owner, last = text.removesuffix(WHOLE).split("/")
        own, form = words_in(original := COPY.sub("", last)), last[len(original) :]
        more = words_in(f"{form} {owner} {row.family} {row.licence or ''}")
        names.append(Name(text, row, frozenset(own), f" {' '.join(own)} / {' '.join(more)} ", bool(form)))
    return tuple(names)


@functools.cache
def _names(rows: tuple[ModelRow, ...]) -> Mapping[str, Name]:
    """Return each id and alias in small letters, and without its owner where one model alone has such a name."""
    full = {name.text.lower(): name for name in _every_name(rows)}
    bare: dict[str, list[Name]] = {}
    for text, name in full.items():
        bare.setdefault(text.split("/")[-1], []).append(name)
    return {text: names[0] for text, names in bare.items() if len({each.row.id for each in names}) == 1} | full


@functools.cache
def _by_words(rows: tuple[ModelRow, ...]) -> Mapping[frozenset[str], list[Name]]:
    """Return the names by their set of words, with and without the words of the owner; copies come last."""
    found: dict[frozenset[str], list[Name]] = {}
    for name in sorted(_every_name(rows), key=lambda name: (name.is_copy, name.text.endswith(WHOLE))):
        for key in {name.words, name.words.union(words_in(name.text.partition("/")[0]))}:
            found.setdefault(key - NO_SIGN, []).append(name)
    return found


def meant(rows: Sequence[ModelRow], text: str) -> tuple[str, str]:
    """Return the name that a text means, and a sentence on what was assumed; no sentence for an id, an alias, an
    address, a path or an unknown text. A copy in another format means its base. Words mean the model that they name in
    full, in any order, or else the only model that has them all."""
    name = id_in(text)
    last, is_id = name.rpartition("/")[2], is_hub_id(name)
    original = COPY.sub("", last)
    is_path = name[:1] in (".", "/", "~", "$") or "\\" in name or name.count("/") > 1
    if is_known(rows, name) or is_path or (is_id and original == last):
        return name, ""
    same = _by_words(tuple(rows)).get(frozenset(words_in(original)) - NO_SIGN, ())
    if same and original != last:
        owner = f"{name.partition('/')[0].lower()}/"
        same = [each for each in same if each.text.lower().startswith(owner)] or same
        if len({each.row.id.removesuffix(WHOLE) for each in same}) != 1:
            return name, ""
        base = same[0].text
        return base, f"{quoted(name)} is a copy in another format: its base {base} is used, assumed from the name."
    parts = _parts(name)
    same = same or [each for each in _ranked(rows, parts) if all(_hit(part, each) == 2 for part in parts)]
    if is_id or len({each.row.id.removesuffix(WHOLE) for each in same}) != 1:
        return name, ""
    if not {word for part in parts for word in part} - NO_SIGN <= {*words_in(same[0].text)}:
        return name, ""  # its family or licence has a word
    return same[0].text, f"{quoted(name)} is read as {same[0].text}, whose name has these words."


def search(rows: Sequence[ModelRow], text: str) -> list[ModelRow]:
    """Return the models that a text may mean, best first, with the alias that fits best, if any, as `name`: the model
    that `meant` finds, then those of which one name, with family and licence, has all words in any order. A word may be
    unfinished or stand without separators ("gptoss20b"); 4b is not 14b, and qwen3 is not Qwen2.5-3B."""
    if not text.strip():
        return list(rows)
    name, _ = meant(rows, text)
    first = [_names(tuple(rows))[name.lower().rstrip("/")]] if is_known(rows, name) else []
    ranked = _ranked(rows, _parts(id_in(text)))
    found = [*first, *(each for each in ranked if not first or each.row is not first[0].row)]
    return [each.row if each.text == each.row.id else replace(each.row, name=each.text) for each in found]


def _parts(text: str) -> list[tuple[str, ...]]:
    """Return the words of each part of a search; the words of one part stand together in a name."""
    return [words for part in re.split(r"[\s/_,:;-]+", text) if (words := words_in(part))]


def _ranked(rows: Sequence[ModelRow], parts: Sequence[tuple[str, ...]]) -> list[Name]:
    """Return the best name of each model with all parts: whole words first, then names without others, in order."""
    best: dict[str, tuple[tuple[int, ...], Name]] = {}
    typed = {word for part in parts for word in part} | NO_SIGN
    for name in _every_name(tuple(rows)):
        hits = [_hit(part, name) for part in parts]
        if parts and all(hits):
            rest = len(name.words - typed)
            key = (-sum(hits), int(rest > 0), int(name.is_copy), int(name.text != name.row.id), rest)
            best[name.row.id] = min(best.get(name.row.id, (key, name)), (key, name), key=lambda each: each[0])
    return [name for _, name in sorted(best.values(), key=lambda each: each[0][:2])]


def _hit(part: tuple[str, ...], name: Name) -> int:
    """Return 2 where these words stand in a name together, 1 where they may be typed for it, else 0."""
    if f" {' '.join(part)} " in name.searched:
        return 2
    if part[0][0].isdecimal():
        return int(len(part) == 1 and f" {part[0]}" in name.searched.partition("/")[0])
    return int("".join(part) in name.searched.replace(" ", ""))


def close_names(rows: Sequence[ModelRow], ref: str) -> tuple[str, ...]:
    """Return at most SUGGESTIONS names that an unknown text may mean: with the nearest known words, if need be all but
    one of them; else names that look like it."""
    import difflib

    every, last = _every_name(tuple(rows)), COPY.sub("", id_in(ref).removesuffix(WHOLE).rpartition("/")[2])
    known = sorted({word for name in every for word in name.words})
    near = [
        word if any(each.startswith(word) for each in known) else (*difflib.get_close_matches(word, known, 1), word)[0]
        for word in words_in(last)
    ]
    for words in [near, *([*near[:at], *near[at + 1 :]] for at in reversed(range(1, len(near))))]:
        if names := [each.text for each in _ranked(rows, [(w,) for w in words]) if words[0] in each.words]:
            return tuple(names[:SUGGESTIONS])
    looks = {name.text.lower().rpartition("/")[2]: name.text for name in reversed(every)}
    return tuple(looks[name] for name in difflib.get_close_matches(last.lower(), looks, SUGGESTIONS, SIMILARITY))


def load_config(assets: Path, ref: str) -> dict[str, Any]:
    """Return the config.json of a catalogue model, with the architecture that the catalogue was built with; raise
    UnknownModelError for any other model."""
    row = find_model(load_index(assets), ref)
    path = assets / "configs" / row.file.replace(".whole.json", ".full.json")
    if not path.is_file():
        path = path.with_name(path.name.replace(".json", ".full.json"))
    config = read_json(path, REMEDY)
    return config | {"architectures": [read_json(assets / "models" / row.file, REMEDY)["architecture"]]}
