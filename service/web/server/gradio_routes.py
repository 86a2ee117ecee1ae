"""The Gradio routes that the app uses. The others are closed: files by path, the proxy, recording, deep links, monitoring,
Gradio's own login and its named API."""

from __future__ import annotations

import re

QUEUE_JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"
STARTUP = "/gradio_api/startup-events"  # requested by `Blocks.launch`
HEARTBEAT = "/gradio_api/heartbeat/"
_GET = (
    r"/|/healthz|/config/?|/theme\.css|/gradio_api/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/static/.+|/assets/.+|"
    r"/gradio_api/(startup-events|app_id|queue/data|upload_progress|heartbeat/[^/]+)"
)
_POST = r"/gradio_api/(queue/join|run/predict|upload|cancel|reset)"
_ALLOWED = {"GET": re.compile(_GET), "HEAD": re.compile(_GET), "POST": re.compile(_POST)}
_PUBLIC = re.compile(r"/(theme\.css|favicon\.ico|manifest\.json|robots\.txt|static/.+|assets/.+)|/gradio_api/theme\.css")


def is_used(method: str, path: str) -> bool:
    """Whether the app uses this path with this method."""
    allowed = _ALLOWED.get(method)
    return allowed is not None and allowed.fullmatch(path) is not None


def is_static(path: str) -> bool:
    """Whether the path is a static file of Gradio, without any content of the notes."""
    return _PUBLIC.fullmatch(path) is not None
