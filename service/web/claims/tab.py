"""The Claims tab: the ledger, filtered by status and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from service.web.claims.page import STATUSES, chosen, claims_html, note_ids
from service.web.components.html import explained, sentence
from service.web.event_effects import reads
from service.web.experiments.run_view import newest_of

_ALL = "all"


@dataclass(frozen=True, slots=True)
class ClaimsTab:
    filters: list[Any]
    table: Any


def build_claims_tab(kb: KnowledgeBase) -> ClaimsTab:
    """Lays out the tab and wires its filters; the app fills it whenever it is opened."""
    with gr.Column(elem_id="claims-column", elem_classes="columns ledger-column"), gr.Column(elem_classes="reading"):
        with gr.Row(elem_id="claims-filters"):
            words = gr.Textbox(
                elem_id="claims-search", show_label=False, container=False, label="Find claims", max_lines=1,
                placeholder="Find claims by their words", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            )  # fmt: skip
            choices = [("all", _ALL), *((label, status) for status, label in STATUSES.items())]
            status = gr.Radio(choices, value=_ALL, elem_id="claims-status", show_label=False, container=False, label="Status")
        table = gr.HTML(elem_id="claims-table", apply_default_css=False)
    tab = ClaimsTab([words, status], table)
    for control in tab.filters:
        control.change(
            reads(lambda words, status: ledger(kb, words, status)), tab.filters, table,
            show_progress="hidden", api_visibility="private", trigger_mode="always_last",
        )  # fmt: skip
    return tab


def ledger(kb: KnowledgeBase, words: str = "", status: str = _ALL) -> str:
    """The table for these filters."""
    try:
        everything = kb.store.ledger()
        notes = kb.store.notes(note_ids(everything))
        wanted = "" if status not in STATUSES else status
        shown = chosen(everything, notes, wanted, str(words or "")[:300])
        runs = newest_of(kb.home, [f"{note_id}#{claim.id}" for note_id, claim in shown])
        return claims_html(shown, len(everything), notes, runs)
    except Exception as error:
        return sentence(explained(error))
