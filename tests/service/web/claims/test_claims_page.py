"""The table of claims: filters, rows, tests, escaping."""

from __future__ import annotations

from collections.abc import Callable

from kb.notes import Claim, ClaimStatus, Note
from service.web.claims.page import claims_html, filter_claims, note_ids
from service.web.experiments.run_view import RunLine

TEST = {"problems": {"set": "countdown"}}
LEDGER = [
    ("v/a", Claim("c", "The base overtakes.", "Rarity is absence.", test=TEST)),
    ("v/a", Claim("d", "It narrows.", status=ClaimStatus.SUPPORTED, evidence=("e/1", "e/2"))),
    ("v/b", Claim("c", "Zebras graze.", status=ClaimStatus.REFUTED, evidence=("e/1",))),
]
NOTES = {
    "v/a": Note("v/a", "Coverage"), "v/b": Note("v/b", "Savanna"),
    "e/1": Note("e/1", "First", properties={"date": "2026-01-02T10:00:00+00:00"}),
    "e/2": Note("e/2", "Second", properties={"date": "2026-02-03"}),
}  # fmt: skip


def test_filters_are_by_status_and_by_all_words() -> None:
    assert filter_claims(LEDGER, NOTES) == LEDGER
    assert [claim.text for _, claim in filter_claims(LEDGER, NOTES, "refuted")] == ["Zebras graze."]
    assert [claim.id for _, claim in filter_claims(LEDGER, NOTES, "", "COVERAGE narrows")] == ["d"]
    assert [claim.id for _, claim in filter_claims(LEDGER, NOTES, "", "rarity")] == ["c"]
    assert filter_claims(LEDGER, NOTES, "supported", "zebras") == []


def test_a_row_has_status_newest_evidence_and_test() -> None:
    html = claims_html(LEDGER, 3, NOTES, {"v/a#c": RunLine("r1", "x", "running")})
    assert html.count("<tr data-claim") == 3 and html.count("data-fill") == 1 and 'data-fill="v/a#c"' in html
    assert "2026-02-03</a>" in html and "and 1 earlier" in html and "2026-01-02, 10:00</a>" in html
    assert ">refuted<" in html and ">not tested yet<" in html and "run running" in html
    assert "data-start" not in html  # nothing starts from the ledger
    assert "2 of 3 claims" in claims_html(LEDGER[:2], 3, NOTES, {})
    assert note_ids(LEDGER) == ["v/a", "e/1", "e/2", "v/b"]


def test_an_empty_ledger_explains_how_to_write_claims(harmless: Callable[[str], None]) -> None:
    html = claims_html([], 0, {}, {})
    assert "claims:" in html and "prediction: {kind: crossover}" in html
    assert "No claim matches" in claims_html([], 3, NOTES, {})
    harmless(html)


def test_a_hostile_claim_is_escaped(evil: str, harmless: Callable[[str], None]) -> None:
    ledger = [(evil, Claim(evil, evil, test=TEST, evidence=(evil,)))]
    harmless(
        claims_html(
            ledger, 1, {evil: Note(evil, evil, properties={"date": evil})}, {f"{evil}#{evil}": RunLine(evil, evil, evil)}
        )
    )
