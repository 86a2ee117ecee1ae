"""The REST API: each call as documented, each answer in its shape, each mistake in a sentence; nothing is ever started."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest
from pydantic import BaseModel, TypeAdapter
from starlette.testclient import TestClient

from kb.knowledge_base import KnowledgeBase
from service.api import schemas
from service.api.rest import EXAMPLES
from service.llm.client import LanguageModel
from service.web.experiments.form import form_values, parse_spec
from tests.service.answering.scripted_server import Reply, said, serving
from tests.service.api.conftest import contents
from tests.service.api.examples import REQUESTS, asked, client

SHAPES: Mapping[str, type] = {
    "status": schemas.Overview, "search": schemas.Hits, "note": schemas.Note, "neighbours": schemas.Neighbours,
    "claims": schemas.Claims, "ask": schemas.Answer, "propose": schemas.Proposal,
}  # fmt: skip
DRY: dict[str, Any] = {
    "problems": {"set": "countdown", "limit": 50},
    "models": {"base": {"model": "rate:0.5", "engine": "scripted"}, "tuned": {"model": "rate:0.6", "engine": "scripted"}},
    "sampling": {"n": 16},
}


def undocumented(value: Any, at: str = "") -> list[str]:
    """Keys of an answer that its shape does not name."""
    if isinstance(value, list):
        return [name for entry in value for name in undocumented(entry, at)]
    if not isinstance(value, BaseModel):
        return []
    inner = [undocumented(getattr(value, name), f"{at}.{name}") for name in type(value).model_fields]
    return [*(f"{at}.{name}" for name in value.model_extra or ()), *(name for names in inner for name in names)]


def operations_of(described: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["operationId"]: entry for methods in described["paths"].values() for entry in methods.values()}


def fits(described: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> None:
    whole = {**schema, "components": described["components"]}
    jsonschema.Draft202012Validator.check_schema(whole)
    jsonschema.Draft202012Validator(whole).validate(value)


@pytest.fixture
def described(web: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = web.get("/api/openapi.json").json()
    return found


def test_every_operation_is_described_with_an_example(described: Mapping[str, Any]) -> None:
    assert described["openapi"].startswith("3.") and described["components"]["securitySchemes"].keys() == {"basic", "bearer"}
    assert operations_of(described).keys() == SHAPES.keys() == REQUESTS.keys() == EXAMPLES.keys()
    for name, operation in operations_of(described).items():
        assert operation["x-example-request"] == REQUESTS[name]
        assert operation["summary"] and {"401", "403", "413", "422"} <= operation["responses"].keys()


@pytest.mark.parametrize("name", SHAPES)
def test_the_example_and_what_really_comes_fit_the_schema(name: str, web: TestClient, described: Mapping[str, Any]) -> None:
    answer = asked(web, REQUESTS[name])
    assert answer.status_code == 200, answer.text
    content = operations_of(described)[name]["responses"]["200"]["content"]["application/json"]
    assert content["example"] == EXAMPLES[name]["response"]
    for value in (answer.json(), content["example"]):
        fits(described, content["schema"], value)
        read: object = TypeAdapter(SHAPES[name]).validate_python(value)
        assert read.to_json() == value if isinstance(read, schemas.Answer) else undocumented(read) == []
    assert answer.json().keys() == content["example"].keys()
    assert answer.headers["cache-control"] == "no-store" and "access-control-allow-origin" not in answer.headers


def test_a_schema_refuses_what_does_not_fit(described: Mapping[str, Any]) -> None:
    schema = operations_of(described)["ask"]["responses"]["200"]["content"]["application/json"]["schema"]
    broken = json.loads(json.dumps(EXAMPLES["ask"]["response"]))
    del broken["statements"][0]["citations"][0]["quote"]
    with pytest.raises(jsonschema.ValidationError):
        fits(described, schema, broken)


def test_the_page_says_it_all_and_fetches_nothing(web: TestClient) -> None:
    page = web.get("/api")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert (
        "<script" not in page.text and "src=" not in page.text and "://" not in page.text.replace("http://127.0.0.1:7860", "")
    )
    assert all(f"id='{name}'" in page.text for name in SHAPES) and "experiments/propose" in page.text
    assert web.get("/api/").text == page.text


def test_an_answer_cites_the_notes_to_the_character(web: TestClient) -> None:
    answer = asked(web, REQUESTS["ask"]).json()
    citations = [citation for statement in answer["statements"] for citation in statement["citations"]]
    assert answer["answered"] and len(citations) > 2
    for cited in [*citations, *EXAMPLES["ask"]["response"]["statements"][0]["citations"]]:
        part = web.get(f"/api/v1/notes/{cited['note_id']}", params={"start": cited["start"], "length": len(cited["quote"])})
        assert part.json()["text"] == cited["quote"] and cited["end"] - cited["start"] == len(cited["quote"])


def test_a_long_note_comes_in_parts(web: TestClient, known: KnowledgeBase) -> None:
    whole, parts, at = known.view(known.find("A long note")).note.text, [], 0
    while True:
        part = web.get("/api/v1/notes/beside/long", params={"start": at, "length": 9_973}).json()
        parts.append(part["text"])
        at += len(part["text"])
        if at >= part["text_length"]:
            break
    assert "".join(parts) == whole and len(parts) > 5
    assert web.get("/api/v1/notes/beside/long", params={"start": 10**9}).json()["text"] == ""


def test_long_lists_are_cut_and_say_so(web: TestClient) -> None:
    hub = web.get("/api/v1/notes/beside/hub").json()
    assert len(hub["links"]) == 100 and hub["left_out"] == {"links": 30}


@pytest.mark.parametrize(
    "name", ["beside/über-uns/ärger-co", "beside%2F%C3%BCber-uns%2F%C3%A4rger-co", "Ärger & Co", "%C3%84rger%20%26%20Co"]
)
def test_names_may_hold_slashes_spaces_and_umlauts(web: TestClient, name: str) -> None:
    note = web.get(f"/api/v1/notes/{name}")
    assert note.status_code == 200 and note.json()["title"] == "Ärger & Co"
    around = web.get(f"/api/v1/notes/{name}/neighbours").json()
    assert around["id"] == note.json()["id"] == "beside/über-uns/ärger-co" and around["notes"][0]["distance"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/api/v1/notes/vault/does-rlvr-expnd", None, 404, "there is no note 'vault/does-rlvr-expnd'"),
        ("GET", "/api/v1/notes/nowhere/neighbours", None, 404, "there is no note 'nowhere'"),
        ("GET", "/api/v1/notes/", None, 404, "there is no note ''"),
        ("GET", "/api/v1/notes/%00", None, 404, "there is no note"),
        ("GET", "/api/v1/notes/Twin", None, 409, "2 notes are called 'Twin': use one of their ids"),
        ("GET", "/api/v1/nothing", None, 404, "/api/v1/nothing does not exist"),
        ("DELETE", "/api/v1/notes/vault/does-rlvr-expand", None, 405, "does not support DELETE"),
        ("PUT", "/api/v1/claims", {}, 405, "does not support PUT"),
        ("GET", "/api/v1/search", None, 422, "q: Field required"),
        ("GET", "/api/v1/search?q=", None, 422, "q: String should have at least 1 character"),
        ("GET", "/api/v1/search?q=a&k=51", None, 422, "k: Input should be less than or equal to 50"),
        ("GET", "/api/v1/search?q=a&limit=5", None, 422, "limit: unknown key"),
        ("GET", f"/api/v1/search?q={'a' * 2001}", None, 422, "at most 2000 characters"),
        ("GET", "/api/v1/claims?status=proven", None, 422, "status: Input should be 'untested', 'supported'"),
        ("GET", "/api/v1/notes/vault/prorl?start=-1", None, 422, "start: Input should be greater than or equal to 0"),
        ("GET", "/api/v1/notes/vault/prorl/neighbours?depth=9", None, 422, "depth: Input should be less than or equal to 3"),
        ("POST", "/api/v1/ask", {"question": "…?!"}, 422, "the question is empty: ask for example"),
        ("POST", "/api/v1/ask", {"question": "a" * 2001}, 422, "question: String should have at most 2000 characters"),
        ("POST", "/api/v1/ask", {"question": "\ud800 half a character"}, 422, "question: "),
        ("POST", "/api/v1/ask", {"question": "Why?", "mode": "oracle"}, 422, "mode: Input should be 'quoted' or 'generated'"),
        ("POST", "/api/v1/ask", {"question": "What is pass@k?", "mode": "generated"}, 409, "no language model is configured"),
        ("POST", "/api/v1/ask", {"question": "Why?", "start": True}, 422, "start: unknown key"),
        ("POST", "/api/v1/ask", ["Why?"], 422, "Correct the request and try again"),
        ("POST", "/api/v1/experiments/propose", {}, 422, "pass either a `claim` (NOTE#ID) or a `spec`"),
        ("POST", "/api/v1/experiments/propose", {"claim": "a#b", "spec": DRY}, 422, "either a `claim`"),
        ("POST", "/api/v1/experiments/propose", {"claim": "vault/does-rlvr-expand"}, 422, "is not a claim: write NOTE#ID"),
        ("POST", "/api/v1/experiments/propose", {"claim": "nowhere#c"}, 404, "there is no note 'nowhere'"),
        ("POST", "/api/v1/experiments/propose", {"claim": "vault/does-rlvr-expand#x"}, 422, "has no claim 'x': it has"),
        ("POST", "/api/v1/experiments/propose", {"claim": "beside/wombats#depth"}, 422, "has no `test` in its note"),
        ("POST", "/api/v1/experiments/propose", {"spec": {**DRY, "modle": 1}}, 422, "key 'modle', did you mean 'models'?"),
        ("POST", "/api/v1/experiments/propose", {"spec": {**DRY, "name": "a" * 7000}}, 422, "too long for a link"),
        ("POST", "/api/v1/experiments/propose", {"spec": DRY, "start": True}, 422, "start: unknown key"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_a_sentence(
    web: TestClient, described: Mapping[str, Any], method: str, path: str, body: Any, status: int, words: str
) -> None:
    content = json.dumps(body).encode() if body is not None else None
    answer = web.request(method, path, content=content, headers={"content-type": "application/json"} if content else None)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    fits(described, {"$ref": "#/components/schemas/Error"}, answer.json())


def test_an_unknown_note_brings_the_nearest(web: TestClient) -> None:
    near = web.get("/api/v1/notes/vault/prorl-expand").json()["nearest"]
    assert {"id": "vault/prorl"}.items() <= near[0].items() and len(near) <= 5
    twins = web.get("/api/v1/notes/Twin").json()["nearest"]
    assert [entry["id"] for entry in twins] == ["beside/a/twin", "beside/b/twin"]


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff\xfe", b'{"question": NaN}', b""])
def test_a_body_that_is_no_json_is_refused(web: TestClient, body: bytes) -> None:
    answer = web.post("/api/v1/ask", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["error"]


def test_a_form_of_another_page_is_no_body(web: TestClient) -> None:
    """What a page can send without asking first is text or a form; neither is taken for JSON."""
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = web.post("/api/v1/ask", content=b'{"question": "What is pass@k?"}', headers={"content-type": kind})
        assert answer.status_code == 422


# -- proposals ---------------------------------------------------------------------------------------------------------


def test_a_proposal_is_a_link_and_a_cost_and_starts_nothing(web: TestClient, known: KnowledgeBase) -> None:
    before = contents(known.home)
    claim = "vault/does-rlvr-expand#crossover"
    proposed = web.post("/api/v1/experiments/propose", json={"claim": claim}).json()
    assert proposed["started"] is False and "51,200 attempts" in proposed["cost"] and proposed["plan"]["attempts"] == 128
    address = urlsplit(proposed["link"])
    assert address.netloc == "127.0.0.1:7860" and parse_qs(address.query) == {"claim": [claim]}
    assert contents(known.home) == before and not (known.home / "runs").exists() and not (known.home / "jobs.sqlite").exists()


def test_a_proposed_spec_fills_the_form_as_it_was_proposed(web: TestClient, known: KnowledgeBase) -> None:
    spec = {**DRY, "name": "ärger & <b>co</b> #1", "question": "Does 50% + 1 hold?"}
    proposed = web.post("/api/v1/experiments/propose", json={"spec": spec}).json()
    (carried,) = parse_qs(urlsplit(proposed["link"]).query)["spec"]
    text, wrong = form_values(known, "", "", carried)
    assert wrong == "" and text.startswith("# This spec came with a link. Read it")
    assert parse_spec(known, text).to_json() == proposed["spec"] and proposed["plan"]["problems"] == 50
    text, wrong = form_values(known, "", "", carried[:-5])
    assert "is not valid JSON" in wrong


def test_a_file_that_a_program_names_is_not_opened(web: TestClient, tmp_path: Path) -> None:
    """Neither its text nor whether it is there comes out."""
    secret = tmp_path / "secret.jsonl"
    secret.write_text("the secret word is zebra", "utf-8")
    told = []
    for path in (secret, tmp_path / "absent.jsonl"):
        spec = {**DRY, "problems": {"file": str(path), "format": "gsm8k"}}
        answer = web.post("/api/v1/experiments/propose", json={"spec": spec})
        assert answer.status_code == 200 and "zebra" not in answer.text
        told.append((answer.json()["plan"], answer.json()["cost"]))
    assert told[0] == told[1] and told[0][0] is None and "only after a person opens the link" in told[0][1]


@pytest.mark.parametrize(
    "change",
    [
        {"problems": {"set": "countdown", "limit": 4_400}},
        {"sampling": {"n": 10**9}},
        {"ks": list(range(1, 202)), "sampling": {"n": 404}},
    ],
)
def test_what_would_take_long_to_plan_is_not_planned_here(web: TestClient, change: Mapping[str, Any]) -> None:
    proposed = web.post("/api/v1/experiments/propose", json={"spec": {**DRY, **change}}).json()
    assert proposed["plan"] is None and proposed["cost"].startswith("not computed: more than 2,000 problems")


def test_half_characters_and_endless_numbers_do_not_break_an_answer(web: TestClient) -> None:
    for name, status in (("\ud800", 200), (float("nan"), 422)):
        body = json.dumps({"spec": {**DRY, "name": name}}).encode()
        answer = web.post("/api/v1/experiments/propose", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status and answer.json()
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    assert web.post("/api/v1/experiments/propose", json={"spec": {**DRY, "models": deep}}).status_code == 422


# -- written answers ---------------------------------------------------------------------------------------------------


def test_a_model_writes_where_it_is_asked_to(known: KnowledgeBase, described: Mapping[str, Any]) -> None:
    with serving(said("RLVR makes a model more likely to be right at the first attempt [1].")) as server:
        model = LanguageModel(server.url, "scripted", "sk-never")
        web = client(known, model=lambda: model)
        body = {"question": "Does RLVR expand what models can reason about?"}
        assert web.post("/api/v1/ask", json=body).json()["mode"] == "quoted" and not server.asked
        answer = web.post("/api/v1/ask", json={**body, "mode": "generated"})
        assert answer.json()["mode"] == "generated" and answer.json()["model"] == "scripted" and len(server.asked) >= 1
        assert web.get("/api/v1/status").json()["model"] == "scripted"
    fits(described, {"$ref": "#/components/schemas/Answer"}, answer.json())
    assert schemas.Answer.from_json(answer.json()).to_json() == answer.json() and "sk-never" not in answer.text


def test_a_model_that_fails_leaves_the_quotes(known: KnowledgeBase) -> None:
    with serving(Reply(status=401, error="bad key")) as server:
        model = LanguageModel(server.url, "scripted", "sk-never")
        body = {"question": "Does RLVR expand what models can reason about?", "mode": "generated"}
        answer = client(known, model=lambda: model).post("/api/v1/ask", json=body)
    assert answer.status_code == 200 and answer.json()["mode"] == "quoted" and "rejected the API key" in answer.json()["fault"]


def test_so_many_answers_are_written_at_once_and_no_more(known: KnowledgeBase) -> None:
    came, go = threading.Semaphore(0), threading.Event()

    def slow(body: Mapping[str, Any]) -> Reply:
        came.release()
        assert go.wait(60)
        return said("RLVR makes a model more likely to be right at the first attempt [1].")

    with serving(slow) as server:
        model = LanguageModel(server.url, "scripted")
        web = client(known, model=lambda: model)
        body = {"question": "Does RLVR expand what models can reason about?", "mode": "generated"}
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(web.post("/api/v1/ask", json=body).status_code)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert came.acquire(timeout=60)
        refused = web.post("/api/v1/ask", json=body)
        assert (
            refused.status_code == 503 and refused.headers["retry-after"] and "try again in a moment" in refused.json()["error"]
        )
        assert web.post("/api/v1/ask", json={**body, "mode": "quoted"}).status_code == 200
        go.set()
        for thread in threads:
            thread.join(60)
        assert codes == [200] * 4 and web.post("/api/v1/ask", json=body).status_code == 200
