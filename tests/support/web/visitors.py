"""Three visitors of a shared page and its admin."""

from rankviz.visitor import Visitor

ANN = Visitor("ann")
BEN = Visitor("ben")
CARL = Visitor("carl")
ADMIN = Visitor("admin", admin=True)


def send(client, who, content=b"rows", name="mine.jsonl", count=1):
    files = [("files", (name, content)) for _ in range(count)]
    return client.post("/gradio_api/upload", files=files, headers={"who": who} if who else {})
