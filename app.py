"""The Gradio app: `python app.py` serves the page. Also the entry point of a Space."""

import sys

from rankviz import settings
from rankviz.errors import UserError

if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("app.py takes no options. Start with `rankviz serve`, which has them: rankviz serve --host 0.0.0.0")
    try:
        settings.port()  # Gradio, which reads it when it is imported, would answer a wrong one with a traceback
        from rankviz.ui.serve import serve

        serve()
    except UserError as error:
        sys.exit(str(error))
