"""The documented examples of the REST API: what the sample vault really answers, with lists cut to one entry.

python -m tests.service.api.examples      writes them again
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.testclient import TestClient

from ingest.pipeline import ingest
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from service.api.operations import Access
from service.web.api_mount import ApiMount
from service.web.server.headers import SecurityHeaders

ROOT = Path(__file__).parents[3]
FILE = ROOT / "service" / "api" / "examples.json"
ADDRESS = "http://127.0.0.1:7860"
_NOTE = "vault/does-rlvr-expand"
REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "status": {"method": "GET", "path": "/api/v1/status"},
    "search": {"method": "GET", "path": f"/api/v1/search?q={quote('entropy collapse')}&k=1"},
    "note": {"method": "GET", "path": f"/api/v1/notes/{_NOTE}?length=160"},
    "neighbours": {"method": "GET", "path": f"/api/v1/notes/{_NOTE}/neighbours?limit=5"},
    "claims": {"method": "GET", "path": "/api/v1/claims?status=untested"},
    "ask": {
        "method": "POST",
        "path": "/api/v1/ask",
        "body": {"question": "Does RLVR expand what models can reason about?", "mode": "quoted"},
    },
    "propose": {"method": "POST", "path": "/api/v1/experiments/propose", "body": {"claim": f"{_NOTE}#crossover"}},
}


def client(kb: KnowledgeBase, **more: Any) -> TestClient:
    """A client of an app that has nothing but the gate for programs and the headers of every response."""
    gate = ApiMount(_nothing, Access(kb, more.pop("model", lambda: None), ADDRESS), **more)
    return TestClient(SecurityHeaders(gate), base_url=ADDRESS)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def asked(web: TestClient, request: Mapping[str, Any]) -> Any:
    """The answer to an example's request."""
    return web.request(request["method"], request["path"], **({"json": request["body"]} if "body" in request else {}))


def abridged(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: abridged(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [abridged(entry) for entry in (value[:1] if value and isinstance(value[0], dict) else value[:12])]
    return value


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, KnowledgeBase(Path(folder), MiniLM()) as kb:
        ingest(kb, [ROOT / "samples" / "vault"])
        web = client(kb)
        found = {
            name: {"request": request, "response": abridged(asked(web, request).json())} for name, request in REQUESTS.items()
        }
    found["note"]["response"]["path"] = found["note"]["response"]["path"].removeprefix(f"{ROOT}/")
    FILE.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
