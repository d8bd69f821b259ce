"""The Gradio app: `python app.py` serves the page. Also the entry point of a Space."""

from rankviz.ui.serve import serve

if __name__ == "__main__":
    serve()
