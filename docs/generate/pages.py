"""Every page with a generated part, as it must read now."""

import contextlib
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from docs.generate import accuracy, code, commands, endpoints, examples, forecast, settings
from docs.generate.markdown import replace_block

ROOT = Path(__file__).parents[2]
EXAMPLE = """import rankviz

answer = rankviz.estimate("Qwen/Qwen3-4B", ranks=[8, 16], precision="bf16", max_steps=500, gpu="L4")
print(answer)
print(answer.to_frame()[["r", "adapter_parameters", "adapter_bytes", "usd_expected"]])
"""


def pages(root: Path = ROOT) -> dict[str, str]:
    """The text of each page by its path in the repository."""
    validation, fidelity = _json(root, "validation.json"), _json(root, "fidelity.json")
    truth, forecasts, page = _json(root, "truth.json"), _json(root, "forecast.json"), built_page()
    blocks = {
        "README.md": {"accuracy": accuracy.summary(validation, fidelity), "data": shipped(root / "assets")},
        "docs/forecast.md": {
            "bands": forecast.bands(forecasts),
            "left out": forecast.left_out(forecasts["left_out"]),
            "holds": forecast.holds(forecasts),
            "regret": forecast.regret(forecasts),
        },
        "docs/command_line.md": {"commands": commands.reference()},
        "docs/tour.md": {**examples.examples(), "python": python_example()},
        "docs/spaces_and_engines.md": {"settings": settings.settings(), "limits": settings.limits()},
        "docs/http_and_mcp.md": {"endpoints": endpoints.reference(page), "results": endpoints.answers(page)},
    }
    texts = {path: _with_blocks(root / path, parts) for path, parts in blocks.items()}
    return texts | {
        "docs/accuracy.md": accuracy.page(validation, fidelity, forecasts, truth),
        "docs/code.md": code.page(root),
    }


def built_page() -> Any:
    """The page on an empty runs folder."""
    from rankviz.api import Api
    from rankviz.ui import build_app

    with TemporaryDirectory() as home:
        return build_app(Api(home=Path(home)))


def python_example() -> str:
    """An estimate in Python, and what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(EXAMPLE, {})
    return f"```python\n{EXAMPLE}```\n\n```text\n{printed.getvalue()}```"


def shipped(assets: Path) -> str:
    """What the package brings, in one sentence."""
    models = json.loads((assets / "models" / "index.json").read_text(encoding="utf-8"))["models"]
    hardware = json.loads((assets / "gpus.json").read_text(encoding="utf-8"))
    aliases, points = _rows(assets / "configs" / "ALIASES.csv"), _rows(assets / "evidence" / "points.csv")
    studies = {row["study_id"] for row in points}
    measured = sum(len(_rows(file)) for file in (assets / "validation").glob("*.csv"))
    return (
        f"It ships {len(models)} models and {len(aliases)} more names with the same shapes, "
        f"{len(hardware['gpus'])} GPUs with dated prices, {len(hardware['macs'])} Macs, "
        f"{len(points):,} points of {len(studies)} rank studies and {measured} measured runs, "
        "each with its source or with a note on what is known of it."
    )


def _with_blocks(page: Path, blocks: Mapping[str, str]) -> str:
    text = page.read_text(encoding="utf-8")
    for name, body in blocks.items():
        text = replace_block(text, name, body)
    return text


def _json(root: Path, name: str) -> Any:
    return json.loads((root / "assets" / name).read_text(encoding="utf-8"))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
