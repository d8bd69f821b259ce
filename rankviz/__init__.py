"""RankViz: what a LoRA rank costs, and what it buys."""

__version__ = "0.1.0"
