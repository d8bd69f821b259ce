"""Makes links of the sources that the guide names."""

import re
from html import escape

ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
PAGES = {
    "Unsloth documentation, LoRA hyperparameters guide": (
        "https://unsloth.ai/docs/get-started/fine-tuning-llms-guide/lora-hyperparameters-guide"
    ),
    "LoRA Without Regret": "https://thinkingmachines.ai/blog/lora/",
}
"""Addresses of sources that are no papers, by how their names begin."""


def linked(source: str) -> str:
    """The names of sources, separated by "; ", each with its address where it has one."""
    return '<span class="rv-under">' + "; ".join(_link(name) for name in source.split("; ")) + "</span>"


def _link(name: str) -> str:
    paper = ARXIV.search(name)
    known = (address for begin, address in PAGES.items() if name.startswith(begin))
    address = f"https://arxiv.org/abs/{paper[1]}" if paper else next(known, "")
    if not address:
        return escape(name)
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(name)}</a>'
