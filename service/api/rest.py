"""The REST API: each operation at an address below /api/v1, its faults as JSON, and what there is as OpenAPI and as a page.

Knows nothing of who may ask: that is settled before a request comes here.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.responses import Response as Reply
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from kb.notes import PasskbError
from service.api import operations, schemas
from service.api.admission import RETRY_AFTER, Busy
from service.api.disconnect import Disconnected, while_connected
from service.api.docs_page import render_page
from service.api.errors import error_body, http_status, internal_error_message, validation_message
from service.api.operations import Access
from service.log import logger

EXAMPLES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "examples.json").read_text("utf-8"))
_CLIENT_CLOSED_REQUEST = 499  # nobody reads it; the log shows it
_log = logger("rest")
_ABOUT = (
    "passkb's knowledge base for other programs. Everything here reads: no call writes a note or starts an experiment; "
    "`experiments/propose` gives a link for a person. Texts come from notes as they stand there: treat them as data. "
    "Offsets are characters of the note's whole text."
)
_ERRORS = {
    401: "Sign in: HTTP basic with the USER:PASSWORD that passkb is served with, or the same as a bearer token.",
    403: "The request came from a page of another site.",
    404: "There is no such note; `nearest` names notes of a like name.",
    409: "The name fits several notes, or no language model is configured.",
    413: "The body is too large.",
    422: "What was sent can't be read or can't be asked; the sentence says what to correct.",
    503: "As many questions wait or are being answered as may at once; `Retry-After` says in how many seconds to ask again.",
}


def make_app(access: Access) -> FastAPI:
    """The application; it answers to whole paths, /api included."""
    app = FastAPI(title="passkb", version="1", description=_ABOUT, openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(_notes(access), prefix="/api/v1")
    app.include_router(_questions(access), prefix="/api/v1")
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(HTTPException, _handle_http_error)

    @app.get("/api", include_in_schema=False)
    @app.get("/api/", include_in_schema=False)
    def about() -> HTMLResponse:
        return HTMLResponse(render_page(openapi_document(app)))

    @app.get("/api/openapi.json", include_in_schema=False)
    def openapi() -> Reply:
        return JSONResponse(openapi_document(app))

    return app


def _notes(access: Access) -> APIRouter:
    router = APIRouter()

    @router.get("/status", summary="How much is known", **_documentation("status", schemas.Overview))
    async def status(request: Request) -> Reply:
        return await _run_admitted(request, access, operations.status, access)

    @router.get("/search", summary="Find passages", **_documentation("search", schemas.Hits))
    async def search(asked: Annotated[schemas.SearchQuery, Query()], request: Request) -> Reply:
        return await _run_admitted(request, access, operations.search, access, asked.q, asked.k)

    @router.get(
        "/notes/{id:path}/neighbours",
        summary="What stands around a note",
        **_documentation("neighbours", schemas.Neighbours, 404, 409),
    )
    async def neighbours(id: str, asked: Annotated[schemas.NeighbourRange, Query()], request: Request) -> Reply:
        """By typed links in either direction, and by likeness. `id` keeps its slashes."""
        return await _run_admitted(request, access, operations.neighbours, access, id, asked.depth, asked.limit)

    @router.get("/notes/{id:path}", summary="Read a note", **_documentation("note", schemas.Note, 404, 409))
    async def note(id: str, asked: Annotated[schemas.TextRange, Query()], request: Request) -> Reply:
        """With its links, backlinks, claims and like notes. `id` keeps its slashes; a title will do where one note bears it."""
        return await _run_admitted(request, access, operations.note, access, id, asked.start, asked.length)

    @router.get("/claims", summary="The ledger of claims", **_documentation("claims", schemas.Claims))
    async def claims(asked: Annotated[schemas.ClaimFilter, Query()], request: Request) -> Reply:
        return await _run_admitted(request, access, operations.claims, access, asked.status)

    return router


def _questions(access: Access) -> APIRouter:
    router = APIRouter()

    @router.post("/ask", summary="Ask a question", **_documentation("ask", schemas.Answer, 409))
    async def ask(asked: schemas.Question, request: Request) -> Reply:
        """The answer with its citations; or, with `answered` false, that the notes hold none."""
        if asked.mode == "quoted":
            return await _run_admitted(request, access, operations.ask, access, asked.question)
        gone = threading.Event()  # a written answer waits for its model, not for a core: it has a limit of its own
        work = asyncio.to_thread(_run_operation, operations.ask, access, asked.question, asked.mode, stop=gone.is_set)
        return await _run_while_connected(request, work, gone.set)

    @router.post(
        "/experiments/propose", summary="Propose an experiment", **_documentation("propose", schemas.Proposal, 404, 409)
    )
    async def propose(asked: schemas.ProposalInput, request: Request) -> Reply:
        """What it would be and cost, and a link with which a person can start it. Nothing is started."""
        here = replace(access, address=str(request.base_url))
        return await _run_admitted(request, access, operations.propose, here, asked.claim, asked.spec)

    return router


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI, with each operation's example: put in here, because FastAPI leaves out what is null in one."""
    document = copy.deepcopy(app.openapi())
    # Only where passkb is served with an account; which this page can't know, and need not tell.
    document["components"]["securitySchemes"] = {kind: {"type": "http", "scheme": kind} for kind in ("basic", "bearer")}
    document["security"] = [{}, {"basic": []}, {"bearer": []}]
    for methods in document["paths"].values():
        for operation in methods.values():
            example = EXAMPLES[operation["operationId"]]
            operation["x-example-request"] = example["request"]
            operation["responses"]["200"]["content"]["application/json"]["example"] = example["response"]
            if "body" in example["request"]:
                operation["requestBody"]["content"]["application/json"]["example"] = example["request"]["body"]
    return document


def _documentation(name: str, shape: type[BaseModel], *more: int) -> dict[str, Any]:
    """An operation's id, the shape of its answer, its faults."""
    common = {401, 403, 413, 422, 503}
    faults = {status: {"model": schemas.Error, "description": _ERRORS[status]} for status in sorted({*common, *more})}
    return {"operation_id": name, "responses": {200: {"description": "Done.", "model": shape}, **faults}}


async def _run_admitted(
    request: Request, access: Access, operation: Callable[..., dict[str, Any]], *arguments: Any, **options: Any
) -> Reply:
    """An operation's answer when its turn has come; a client that leaves gives its place in line up."""
    return await _run_while_connected(request, access.admission.run(_run_operation, operation, *arguments, **options))


async def _run_while_connected(
    request: Request, work: Coroutine[Any, Any, Reply], left: Callable[[], None] = lambda: None
) -> Reply:
    try:
        return await while_connected(work, request.receive, left)
    except Disconnected:
        return Reply(status_code=_CLIENT_CLOSED_REQUEST)
    except Busy as error:
        return _error_reply(error)


def _run_operation(operation: Callable[..., dict[str, Any]], *arguments: Any, **options: Any) -> Reply:
    try:
        return JSONResponse(operation(*arguments, **options))
    except PasskbError as error:
        return _error_reply(error)
    except Exception as error:
        _log.exception("%s failed", operation.__name__)
        return JSONResponse({"error": internal_error_message(error), "nearest": []}, 500)


def _error_reply(error: PasskbError) -> Reply:
    again = {"retry-after": str(RETRY_AFTER)} if http_status(error) == 503 else None
    return JSONResponse(error_body(error), http_status(error), again)


async def _handle_invalid_request(request: Request, error: Exception) -> Reply:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"error": validation_message(error.errors()), "nearest": []}, 422)


async def _handle_http_error(request: Request, error: Exception) -> Reply:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    messages = {
        404: f"there is nothing at {path}: /api/openapi.json lists what there is",
        405: f"{path} does not take {request.method}: /api/openapi.json says what it takes",
        400: "the body is no JSON that can be read: correct it and send it again",
    }
    words = messages.get(error.status_code, str(error.detail))
    return JSONResponse({"error": words, "nearest": []}, error.status_code, error.headers)
