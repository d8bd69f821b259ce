"""Everything that is written for a while, in one place: HOME/tmp.

page/     what Gradio is given and gives: uploads and downloads, a folder each; removed when they are old, and
          sooner when others need the room (making_room.py)
owners/   whose an upload is: a folder a visitor, a small file an upload
work/     what child processes unpack and write, a folder an app with a lock; removed when the app has ended
"""

from rankviz.store.temp.home import TempHome, Usage

__all__ = ["TempHome", "Usage"]
