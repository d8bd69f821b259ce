"""Says how to install what an exported script needs: with pip, with uv, and in Colab.

The versions are pinned, since the number of trained parameters depends on them. In Colab, torch stays the one that is
there, because it matches the driver: plain `pip install unsloth` may replace it with one that needs a newer driver.
PEFT 0.21 refuses Colab's own torchao (0.10) and wants 0.16 or newer; torchao from 0.17 on needs torch 2.11. Sources:
https://unsloth.ai/docs/get-started/install and the install cells of https://github.com/unslothai/notebooks
(update_all_notebooks.py), checked 2026-11-26.
"""

from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, Framework

PINNED = {
    "unsloth": UNSLOTH_VERSION,
    "unsloth_zoo": "2026.10.9",
    "trl": "1.15.0",
    "peft": PEFT_VERSION,
    "transformers": "5.17.0",
    "datasets": "4.8.5",
    "bitsandbytes": "0.50.2",
}
"""With these versions the scripts are run in tests/export/code/test_scripts_train.py. unsloth_zoo, which unsloth asks
for without an upper limit, has the pattern that finds the layers."""
LEFT_OUT = {"unsloth": (), "trl": ("unsloth", "unsloth_zoo"), "peft": ("unsloth", "unsloth_zoo", "trl")}
"""What a framework's script does not use."""
PYTHON = ">=3.11"
"""What TRL 1.15 needs."""


def requirements(framework: Framework) -> tuple[str, ...]:
    """ "unsloth==2026.10.9" and what else the framework's script imports."""
    return tuple(f"{name}=={version}" for name, version in PINNED.items() if name not in LEFT_OUT[framework])


def above_script(framework: Framework) -> str:
    """Comment lines: the pip command, and the header by which `uv run` installs the same (PEP 723)."""
    listed = "".join(f'#     "{requirement}",\n' for requirement in requirements(framework))
    return (
        "# Install this first, or start this file with `uv run`, which installs it:\n"
        f"# pip install {' '.join(requirements(framework))}\n"
        f'#\n# /// script\n# requires-python = "{PYTHON}"\n# dependencies = [\n{listed}# ]\n# ///\n#\n'
    )


def notebook_cell(framework: Framework) -> str:
    """The first cell of a notebook."""
    return f"%pip install --quiet {' '.join(requirements(framework))}"


def colab_cell(framework: Framework) -> str:
    """The first cell of a notebook for Colab."""
    return COLAB.format(requirements=" ".join(requirements(framework)))


COLAB = """\
from importlib.metadata import version

torch_version = version("torch").split("+")[0]  # Colab's own stays: it matches the driver
torch_2_11 = tuple(map(int, torch_version.split(".")[:2])) >= (2, 11)
torchao_version = "0.18.0" if torch_2_11 else "0.16.0"  # PEFT needs 0.16, and newer ones need torch 2.11
%pip install --quiet torch=={{torch_version}} torchao=={{torchao_version}} {requirements}"""
