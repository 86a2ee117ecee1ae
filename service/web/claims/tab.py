"""The Claims tab: all claims, filtered by status and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from service.web.claims.page import claims_html, filter_claims, note_ids
from service.web.components.formatting import CLAIM_STATUSES
from service.web.components.messages import error_html
from service.web.event_effects import reads
from service.web.experiments.run_view import newest_runs

_ALL = "all"


@dataclass(frozen=True, slots=True)
class ClaimsTab:
    filters: list[Any]
    table: Any


def build_claims_tab(kb: KnowledgeBase) -> ClaimsTab:
    """Lays out the tab, and connects its filters."""
    with gr.Column(elem_id="claims-column", elem_classes="columns ledger-column"), gr.Column(elem_classes="reading"):
        with gr.Row(elem_id="claims-filters"):
            query = gr.Textbox(
                elem_id="claims-search", show_label=False, container=False, label="Search the claims", max_lines=1,
                placeholder="Search the claims", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            )  # fmt: skip
            choices = [("all", _ALL), *((label, status) for status, label in CLAIM_STATUSES.items())]
            status = gr.Radio(choices, value=_ALL, elem_id="claims-status", show_label=False, container=False, label="Status")
        table = gr.HTML(elem_id="claims-table", apply_default_css=False)
    tab = ClaimsTab([query, status], table)
    for control in tab.filters:
        control.change(
            reads(lambda query, status: ledger_html(kb, query, status)), tab.filters, table,
            show_progress="hidden", api_visibility="private", trigger_mode="always_last",
        )  # fmt: skip
    return tab


def ledger_html(kb: KnowledgeBase, query: str = "", status: str = _ALL) -> Markup:
    """The table for these filters."""
    try:
        ledger = kb.store.ledger()
        notes = kb.store.notes(note_ids(ledger))
        shown = filter_claims(ledger, notes, status if status in CLAIM_STATUSES else "", str(query or "")[:300])
        runs = newest_runs(kb.home, [f"{note_id}#{claim.id}" for note_id, claim in shown])
        return claims_html(shown, len(ledger), notes, runs)
    except Exception as error:
        return error_html(error)
