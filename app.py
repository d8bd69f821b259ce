"""The Gradio app: `python app.py` serves the page. Also the entry point of a Space."""

from rankviz.api import Api
from rankviz.ui import build_app, launch_options

if __name__ == "__main__":
    api = Api()
    api.workspace.work_queue()
    build_app(api).queue(api_open=False).launch(**launch_options())
