"""What a ZeroGPU Space asks of a page that uses no GPU.

Training runs in a process of its own for minutes, and ZeroGPU lends its GPU to one call of the page's process.
"""

import gradio as gr
from gradio.utils import is_zero_gpu_space

QUEUED = 1000


def prepare(app: gr.Blocks) -> None:
    """Make this page one that ZeroGPU keeps running. Elsewhere nothing is done.

    The Hub ends a Space in which no function asks for the GPU (spaces 0.51 reports its start only then), and Gradio
    lets one event wait there, where a page that opens sends several.
    """
    if not is_zero_gpu_space():
        return
    import spaces

    spaces.GPU(_never_called)
    app.queue(max_size=QUEUED)


def _never_called() -> None:
    pass
