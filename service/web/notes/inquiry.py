"""The parts of a note's page with buttons: an inquiry's staleness, its last changes, suggested and accepted links."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from markupsafe import Markup

from kb.notes import Link
from service.inquiries.answer_diff import Changes
from service.inquiries.staleness import InquiryStatus
from service.suggestions.ranking import Suggestion
from service.web.components.templates import macro, render

_MAX_OPEN = 3  # suggestions that are shown without a click


def staleness_html(status: InquiryStatus, known: Collection[str] = ()) -> Markup:
    """Whether an inquiry is stale, and why. `known`: the ids of existing notes."""
    record = status.record
    return render(
        "notes/staleness.html",
        note_id=status.note.id,
        record=record,
        day=record.asked[:10],
        reasons=status.reasons,
        known=known,
    )


def edited_html(note_id: str, message: str) -> Markup:
    """Asks for confirmation before asking again replaces an inquiry that the user has edited."""
    return render("notes/edited.html", note_id=note_id, message=message)


def changes_html(changes: Changes, *, is_open: bool) -> Markup:
    """What changed when the answer was last written. Omits reasons that a removed sentence already gives."""
    because = [reason for reason in changes.because if not any(entry.text in reason for entry in changes.removed)]
    return render("notes/changes.html", changes=changes, because=because, open=is_open)


def suggestions_html(
    note_id: str, suggestions: Sequence[Suggestion], *, is_open: bool = False, can_propose: bool = False
) -> Markup:
    """Suggested links with their reasons and buttons. `can_propose`: a model can propose types and reasons."""
    return render(
        "notes/suggestions.html",
        note_id=note_id,
        suggestions=suggestions,
        open=is_open or len(suggestions) <= _MAX_OPEN,
        can_propose=can_propose,
    )


def accepted_links_html(note_id: str, links: Sequence[Link], titles: Mapping[str, str]) -> Markup:
    """The links in the front matter of a note that passkb wrote for accepted links."""
    return render("notes/accepted_links.html", note_id=note_id, links=links, titles=titles)


def link_note_ids(html: Markup, note_ids: Iterable[str]) -> Markup:
    """Turns `<code>NOTE-ID</code>` into links."""
    note_link = macro("components/links.html", "note_link")
    linked = str(html)
    for note_id in note_ids:
        code = Markup("<code>{}</code>")
        linked = linked.replace(code.format(note_id), code.format(note_link(note_id, note_id)))
    return Markup(linked)
