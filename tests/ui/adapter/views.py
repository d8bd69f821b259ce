"""The Adapter tab as a reader sees it."""

import json

from rankviz.ui.adapter import tab as adapter
from rankviz.ui.adapter import view

K_DEAD = "model.layers.1.self_attn.v_proj"


def shown(api, source, *, mode=adapter.BY_RANK, r=2, energy=99.0, dtype=adapter.AS_IT_IS, cell="", detailed=True):
    return view.shown(api, source=source, mode=mode, r=r, energy=energy, dtype=dtype, cell=cell, detailed=detailed)


def figure(value: str) -> dict:
    return json.loads(value)


def texts(view) -> list[str]:
    return [value for value in vars(view).values() if isinstance(value, str)]
