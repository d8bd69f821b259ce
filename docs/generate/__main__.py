"""`make docs`, or `python -m docs.generate`: write every generated part anew."""

from docs.generate.pages import ROOT, pages

for path, text in pages().items():
    (ROOT / path).write_text(text, encoding="utf-8")
    print(path)
