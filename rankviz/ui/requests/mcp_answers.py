"""What MCP tools answer: JSON. Gradio's own MCP server writes values as Python does (None, True), which is not."""

import json
from typing import Any

from gradio.processing_utils import add_root_url
from gradio_client.utils import is_file_obj_with_meta


def in_json(server: Any) -> Any:
    """Gradio's MCP server, whose tools answer in JSON; files stay addresses."""
    as_gradio = server.postprocess_output_data

    def answers(data: list[Any], root_url: str) -> list[Any]:
        from mcp.types import TextContent

        found = []
        for output in data:
            if is_file_obj_with_meta(output):
                found += as_gradio([output], root_url)
            else:
                text = json.dumps(add_root_url(output, root_url, None), ensure_ascii=False)
                found.append(TextContent(type="text", text=text))
        return found

    server.postprocess_output_data = answers
    return server
