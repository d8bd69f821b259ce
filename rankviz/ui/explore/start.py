"""The question that an address describes, with a framework and targets that its model can be trained with."""

from collections.abc import Mapping
from typing import Any

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.ui import link
from rankviz.ui.parts.question import DEFAULTS, NO_GPU, prices_of


def question_of(api: Api, params: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The widgets' values, and a sentence for each mistake. What the address leaves out is the page's default, or what
    suits the model where that cannot train it."""
    values, notes = link.read(params)
    try:
        api.estimates.own_prices(prices_of(values["prices"]))
    except RankVizError as error:
        notes.append(f"The address contains wrong prices. {error} The prices of the table are shown.")
        values["prices"] = DEFAULTS["prices"]
    gpus = [*(gpu.id for gpu in api.workspace.gpus), NO_GPU]
    if values["gpu"] not in gpus:
        shown = values["gpu"][:40]
        notes.append(f"The address has gpu={shown}, but gpu must be one of {', '.join(gpus)}. The default is shown.")
        values["gpu"] = DEFAULTS["gpu"]
    if not {"targets", "framework", "class"} & set(params):
        values |= suitable(api, values)
    return values, notes


def suitable(api: Api, values: Mapping[str, Any]) -> dict[str, Any]:
    """Framework and preset where the model cannot be trained with the page's defaults; nothing for any other, and for
    a model that only the Hub knows."""
    try:
        model = api.models.at_hand((values["model"] or "").strip())
    except RankVizError:
        return {}
    framework, preset = api.models.usual_setting(model) if model else (DEFAULTS["framework"], DEFAULTS["preset"])
    if (framework, preset) == (DEFAULTS["framework"], DEFAULTS["preset"]):
        return {}
    return {"framework": framework, "preset": preset}
