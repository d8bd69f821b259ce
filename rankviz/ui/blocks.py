"""The page's Blocks: each call runs as the visitor who sent it, and an open page keeps little on the server."""

import os
from collections import ChainMap
from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig

from rankviz.errors import UserError
from rankviz.ui.configuration import SmallBlocks, SmallConfig
from rankviz.ui.visitors import visitor_of
from rankviz.visitor import acting_as


class PageBlocks(SmallBlocks):
    """Every function of the page and every endpoint is called through `process_api`, through the queue or past it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.default_config = PageConfig(self)

    def launch(self, *args: Any, **options: Any) -> Any:
        """UserError where the page is to ask for a login and serve MCP, which asks for none."""
        mcp = options.get("mcp_server")
        serves_mcp = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true" if mcp is None else mcp
        if serves_mcp and (options.get("auth") or options.get("auth_dependency")):
            raise UserError(
                "MCP clients would get past the login. Leave out auth, or turn MCP off: unset GRADIO_MCP_SERVER."
            )
        return super().launch(*args, **options)

    async def process_api(self, *args: Any, request: Any = None, **kwargs: Any) -> dict[str, Any]:
        with acting_as(visitor_of(request[0] if isinstance(request, list) else request)):
            return await super().process_api(*args, request=request, **kwargs)

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Values that no widget of the page sends are a mistake of who sent them: a sentence, not a line in the log."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            raise gr.Error(error.message, print_exception=False) from error
        except Exception as error:
            raise gr.Error("The request could not be read. Reload the page.", print_exception=False) from error

    def get_config_file(self) -> Any:
        """Without the stream that each open page would hold: a browser has six connections to a host, so a seventh page
        would wait for ever. Gradio learns by it that a page was closed; here the oldest pages are forgotten instead
        (state_session_capacity)."""
        return {**super().get_config_file(), "connect_heartbeat": False}


NOT_KEPT: dict[str, Any] = {}


class PageConfig(SmallConfig):
    """What is on the page. Gradio copies it for each open page, and keeps the configuration of every component beside
    it, for deep links, of which there are none here."""

    def __copy__(self) -> "OpenPage":
        return OpenPage(self)


class OpenPage(BlocksConfig):
    """The page's components, over which those stand that were changed on one open page."""

    def __init__(self, page: PageConfig):
        super().__init__(page.root_block)
        self.blocks = ChainMap({}, page.blocks)
        self.fns = page.fns
        self.fn_id = page.fn_id

    def config_for_block(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return NOT_KEPT
