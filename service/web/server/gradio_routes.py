"""Which of Gradio's addresses the page uses. Everything else that Gradio serves is closed: files by path, a proxy, recording,
deep links, monitoring, its own login and its calls by name."""

from __future__ import annotations

import re

QUEUE_JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"
STARTUP = "/gradio_api/startup-events"  # asked by Gradio's own `launch`
HEARTBEAT = "/gradio_api/heartbeat/"
_GET = (
    r"/|/healthz|/config/?|/theme\.css|/gradio_api/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/static/.+|/assets/.+|"
    r"/gradio_api/(startup-events|app_id|queue/data|upload_progress|heartbeat/[^/]+)"
)
_POST = r"/gradio_api/(queue/join|run/predict|upload|cancel|reset)"
_ALLOWED = {"GET": re.compile(_GET), "HEAD": re.compile(_GET), "POST": re.compile(_POST)}
_PUBLIC = re.compile(r"/(theme\.css|favicon\.ico|manifest\.json|robots\.txt|static/.+|assets/.+)|/gradio_api/theme\.css")


def is_used(method: str, path: str) -> bool:
    """Whether the page asks for this address by this method."""
    allowed = _ALLOWED.get(method)
    return allowed is not None and allowed.fullmatch(path) is not None


def is_static(path: str) -> bool:
    """Whether what is there comes with Gradio and holds nothing of the notes."""
    return _PUBLIC.fullmatch(path) is not None
