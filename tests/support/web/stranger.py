"""A visitor without a browser, who knows nothing but the page's address: it reads the configuration that the page sends
and calls its events as Gradio's own front end does, or as somebody does who means harm."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

import httpx

SECONDS = 60.0


class Events:
    """The events of a page, found by the elem_id or label of what triggers them, never by number."""

    def __init__(self, config: Mapping[str, Any]):
        self.components = {row["id"]: row["props"] for row in config["components"]}
        self.rows = {row["id"]: row for row in config["dependencies"]}
        self.heartbeat = config["connect_heartbeat"]
        self.loads = [row["id"] for row in self.rows.values() if any(event == "load" for _, event in row["targets"])]

    def of(self, name: str, event: str) -> list[int]:
        """What the event of a component runs on the server, in order, with all that follows from it."""
        found = [
            row["id"]
            for row in self.rows.values()
            if any(kind == event and name in self._names(at) for at, kind in row["targets"])
        ]
        if not found:
            raise LookupError(f"no event {event!r} of {name!r}")
        return self.chain(found)

    def chain(self, ids: list[int]) -> list[int]:
        """These and what comes after them, as far as the server takes part."""
        reached = list(ids)
        for each in reached:
            reached += [row["id"] for row in self.rows.values() if row.get("trigger_after") == each]
        return [each for each in reached if self.rows[each]["backend_fn"]]

    def data(self, event: int, values: Mapping[str, Any]) -> list[Any]:
        """The inputs of an event: as the page was sent, except for values by elem_id or label. States are the
        server's."""
        return [self._value(at, values) for at in self.rows[event]["inputs"]]

    def api(self, name: str) -> int:
        return next(row["id"] for row in self.rows.values() if row.get("api_name") == name)

    def _value(self, at: int, values: Mapping[str, Any]) -> Any:
        props = self.components.get(at, {})
        return next((values[name] for name in self._names(at) if name in values), props.get("value"))

    def _names(self, at: int) -> list[str]:
        props = self.components.get(at, {})
        return [name for name in (props.get("elem_id"), props.get("label")) if name]


class Stranger:
    """One visitor with a cookie and a session of their own."""

    def __init__(self, url: str, *, cookies: Mapping[str, str] | None = None):
        self.http = httpx.Client(base_url=url, timeout=SECONDS, cookies=dict(cookies or {}))
        self.session = secrets.token_hex(6)
        self.page = self.http.get("/")
        self.events = Events(self.http.get("/config").json())

    def load(self, search: str = "") -> list[str]:
        """What a browser runs when the page is opened at an address; the errors."""
        self.page = self.http.get(f"/{search}")
        ids = self.events.chain(self.events.loads)
        return [error for each in ids if (error := self.call(each, search=search).error)]

    def press(self, name: str, event: str = "click", **values: Any) -> "Answer":
        """The first event of a component, alone."""
        by_name = {key.replace("_", "-"): value for key, value in values.items()} | values.pop("named", {})
        return self.call(self.events.of(name, event)[0], by_name)

    def run(self, name: str, event: str = "click", **values: Any) -> list["Answer"]:
        """The event with all that follows from it on the server."""
        by_name = {key.replace("_", "-"): value for key, value in values.items()} | values.pop("named", {})
        return [self.call(each, by_name) for each in self.events.of(name, event)]

    def call(
        self, event: int, values: Mapping[str, Any] | None = None, *, data: Any = None, event_data: Any = None,
        search: str = "",
    ) -> "Answer":  # fmt: skip
        body = {
            "fn_index": event,
            "data": self.events.data(event, values or {}) if data is None else data,
            "session_hash": self.session,
            "event_data": event_data,
            "trigger_id": None,
        }
        headers = {"content-type": "application/json"}
        content = json.dumps(body).encode()
        if not self.events.rows[event]["queue"]:
            reply = self.http.post(f"/gradio_api/run/predict{search}", content=content, headers=headers)
            return Answer.of(reply)
        reply = self.http.post(f"/gradio_api/queue/join{search}", content=content, headers=headers)
        return Answer.of(reply) if reply.status_code != 200 else self._result(reply.json()["event_id"])

    def _result(self, event_id: str) -> "Answer":
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "process_completed" and message["event_id"] == event_id:
                    output = message["output"]
                    return Answer(200, output.get("data"), "" if message["success"] else str(output.get("error")))
        return Answer(0, None, "the stream ended")

    def endpoint(self, name: str, *arguments: Any) -> "Answer":
        """A named endpoint, with its first arguments; the others are as the page has them."""
        event = self.events.api(name)
        return self.call(event, data=[*arguments, *self.events.data(event, {})[len(arguments) :]])

    def ask(self, name: str = "answer", **values: Any) -> httpx.Response:
        """An answer of Explore."""
        return self.http.post(f"/rankviz/{name}", json={"values": values})

    def upload(self, name: str, data: bytes) -> str:
        """Where the server has put it."""
        reply = self.http.post("/gradio_api/upload", files={"files": (name, data)})
        reply.raise_for_status()
        return reply.json()[0]

    def become_another(self) -> None:
        """A visitor without a past, as anyone is who clears the cookies."""
        self.http.cookies.clear()
        self.session = secrets.token_hex(6)
        self.page = self.http.get("/")

    def close(self) -> None:
        self.http.close()


class Answer:
    """What an event gave: its data, or the text of its error."""

    def __init__(self, status: int, data: Any, error: str = ""):
        self.status, self.data, self.error = status, data, error

    @classmethod
    def of(cls, reply: httpx.Response) -> "Answer":
        try:
            body = reply.json()
        except ValueError:
            return cls(reply.status_code, None, reply.text[:500])
        error = "" if reply.status_code == 200 else str(body.get("error") or body.get("detail") or body)
        return cls(reply.status_code, body.get("data"), error)

    @property
    def text(self) -> str:
        return self.error + json.dumps(self.data)

    def __repr__(self) -> str:
        return f"Answer({self.status}, {json.dumps(self.data)[:300]}, {self.error!r})"


def file_data(path: str, name: str = "file") -> dict[str, Any]:
    """An uploaded file, as an event's input."""
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
