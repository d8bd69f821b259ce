"""A bare Gradio page, to be compared with: a rank by number or slider, one line of text, one figure. Takes a port."""

import sys

import gradio as gr
import plotly.graph_objects as go

PARAMETERS_PER_RANK = 2_621_440


def text(r: float) -> str:
    return f"{r * PARAMETERS_PER_RANK:,.0f} parameters"


with gr.Blocks(analytics_enabled=False) as page:
    number = gr.Number(16, label="Rank", elem_id="number")
    slider = gr.Slider(1, 256, value=16, step=1, label="Rank", elem_id="slider")
    parameters = gr.Markdown(elem_id="parameters")
    gr.Plot(go.Figure(go.Scatter(x=[4, 16, 64], y=[1.2, 1.1, 1.1])))
    gr.on([page.load, number.change], text, number, parameters)
    slider.change(text, slider, parameters)

if __name__ == "__main__":
    page.launch(
        server_name="127.0.0.1",
        server_port=int(sys.argv[1]),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
    )
