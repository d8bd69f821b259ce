"""The named endpoints: which there are, and each as a function."""

import gradio as gr

from rankviz.ui.endpoints import publish

READING = ("estimate", "fit", "advise", "forecast", "export", "models", "studies", "verdict", "runs", "run", "status")
CHANGING = ("start_sweep", "cancel", "resume", "delete", "share", "export_runs")
FILES = ("spectrum", "resize")
ENDPOINTS = (*READING, *CHANGING, *FILES)


def functions_of(api):
    with gr.Blocks() as page:
        publish(api)
    return {fn.api_name: fn.fn for fn in page.fns.values()}
