"""The command `mcp`: the tools over standard input and output."""

from __future__ import annotations

import argparse
from functools import cache
from typing import TYPE_CHECKING, Any

from service.cli.invocation import DONE
from service.config import home_folder, read_config

if TYPE_CHECKING:
    from service.llm.client import Model


def add_commands(commands: Any) -> None:
    """Adds the command."""
    about = "serve the knowledge base as MCP tools over standard input and output"
    mcp = commands.add_parser("mcp", help=about, description=about)
    mcp.set_defaults(run=_mcp)
    mcp.add_argument("--app", metavar="URL", help="URL of the web app, for links")


def _mcp(options: argparse.Namespace) -> int:
    home = home_folder(options.home)
    config = read_config(home)

    @cache
    def model() -> Model | None:
        """Created on first use: its libraries take seconds to load."""
        from service.llm.factory import open_model

        return open_model(config)

    from service.api.mcp import serve_stdio
    from service.api.operations import Access
    from service.cli.open_home import open_home

    local = config.host if config.host not in ("0.0.0.0", "::") else "127.0.0.1"
    with open_home(home) as kb:
        serve_stdio(Access(kb, model, options.app or f"http://{local}:{config.port}"))
    return DONE
