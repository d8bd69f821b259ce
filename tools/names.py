"""Rebuilds assets/models/unsloth_4bit.json: `python -m tools.names [MODELS_DIR]`.

Every id of the catalogue and every other name of it goes through the installed Unsloth's own get_model_name, offline:
which repository does it load in 4 bit? The table keeps the names whose answer is another one. Sizes by hand stay.
"""

import datetime
import importlib.metadata
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from rankviz.catalog import read_json
from rankviz.catalog.models import CHECKPOINTS
from rankviz.core.model.spec import WHOLE
from rankviz.paths import ASSETS


def every_name(models: Path) -> tuple[str, ...]:
    """Return every Hub id in the index of this folder, aliases included."""
    rows = read_json(models / "index.json")["models"]
    names = (name.removesuffix(WHOLE) for row in rows for name in (row["id"], *row.get("aliases", ())))
    return tuple(dict.fromkeys(names))


def main(models: Path = ASSETS / "models") -> None:
    answers = loaded_in_4_bit(every_name(models))
    write_table(models, answers)
    print(f"{len(answers)} names in {models / CHECKPOINTS}")


def loaded_in_4_bit(names: Iterable[str]) -> dict[str, str]:
    """The repository that the installed Unsloth loads in place of each name, which may be the name itself."""
    os.environ.update(UNSLOTH_ALLOW_CPU="1", HF_HUB_OFFLINE="1")
    import unsloth  # noqa: F401
    from unsloth.models.loader_utils import get_model_name

    return {name: get_model_name(name, load_in_4bit=True) for name in names}


def write_table(models: Path, answers: Mapping[str, str]) -> None:
    """Write the names that stand for another repository, grouped by it, and keep the sizes."""
    names = defaultdict(list)
    for name, repository in answers.items():
        if repository.lower() != name.lower():
            names[repository].append(name)
    table = {
        "source": f"unsloth {importlib.metadata.version('unsloth')} get_model_name(name, load_in_4bit=True)",
        "checked": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "loaded": {repository: sorted(names[repository], key=str.lower) for repository in sorted(names, key=str.lower)},
        "sizes": read_json(models / CHECKPOINTS)["sizes"],
    }
    (models / CHECKPOINTS).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
