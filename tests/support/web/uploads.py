"""An upload as a browser sends it."""


def send(client, who, content=b"rows", name="mine.jsonl", count=1):
    files = [("files", (name, content)) for _ in range(count)]
    return client.post("/gradio_api/upload", files=files, headers={"who": who} if who else {})
