"""The OpenAPI document as one self-contained HTML page with an example and the errors of each operation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>passkb API</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ overflow: auto; padding: .7rem; border: 1px solid #8885; font-size: .85rem }}
h2 {{ margin: 2.5rem 0 .3rem }} td {{ padding: .1rem .8rem .1rem 0; vertical-align: top }}
</style>
<h1>passkb API</h1>
<p>{about}</p>
<p>OpenAPI document: <a href="/api/openapi.json">/api/openapi.json</a>. Tools for language models: Model Context
Protocol at <code>/mcp</code>, or <code>passkb mcp</code> over standard input and output.</p>
{operations}
</html>
"""


def render_page(described: Mapping[str, Any]) -> str:
    """The page as HTML; all values are escaped."""
    sections = [
        _render_operation(path, method, operation, described)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    return _PAGE.format(about=escape(str(described["info"]["description"])), operations="\n".join(sections))


def curl_command(method: str, path: str, body: object = None) -> str:
    """A curl command for this call, to an app on the default port."""
    address = f"http://127.0.0.1:7860{path}"
    if body is None:
        return f"curl '{address}'"
    sent = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return f"curl '{address}' -H 'content-type: application/json' -d '{sent}'"


def _render_operation(path: str, method: str, operation: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    request = operation["x-example-request"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    faults = "".join(
        f"<tr><td>{status}</td><td>{escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
        if status != "200"
    )
    return (
        f"<h2 id='{escape(operation['operationId'])}'>{escape(operation['summary'])}</h2>"
        f"<p><code>{method.upper()} {escape(path)}</code></p><p>{escape(operation.get('description', ''))}</p>"
        f"{_render_parameters(operation, described)}"
        f"<pre>{escape(curl_command(method, request['path'], request.get('body')))}</pre>"
        f"<pre>{escape(json.dumps(example, ensure_ascii=False, indent=1))}</pre>"
        f"<details><summary>Errors</summary><table>{faults}</table></details>"
    )


def _render_parameters(operation: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    rows = [(entry["name"], entry.get("schema", {}), entry.get("description", "")) for entry in operation.get("parameters", ())]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if reference := body.get("$ref", ""):
        shape = described["components"]["schemas"][reference.rsplit("/", 1)[-1]]
        rows += [(name, entry, entry.get("description", "")) for name, entry in shape["properties"].items()]
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(words)}{_render_default(schema)}</td></tr>"
        for name, schema, words in rows
    )
    return f"<table>{cells}</table>" if cells else ""


def _render_default(schema: Mapping[str, Any]) -> str:
    return f" ({escape(json.dumps(schema['default']))} by default)" if schema.get("default") not in (None, "") else ""
