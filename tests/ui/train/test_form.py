"""The form of Train."""

import gradio as gr
import pytest

from rankviz.ui.train.form import form_widgets


@pytest.mark.parametrize("shared", [True, False])
def test_only_on_ones_own_machine_a_folder_is_offered_as_a_base(shared):
    with gr.Blocks():
        base = form_widgets([("Phonemes", "phonemes")], shared=shared)["base"]

    assert shared is not ("folder" in base.info)
