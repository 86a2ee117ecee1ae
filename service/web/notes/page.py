"""A note's page as HTML: its head, its text with claims and inquiries, and its links with their reasons. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from kb.knowledge_base import NoteView
from kb.markdown.blocks import plain
from kb.notes import Claim, Hit, Link, LinkType, Note, NoteKind
from service.web.components.html import ask_link, counted, note_link, run_link, text, verb
from service.web.components.markdown import NoteHref, inline, render
from service.web.notes.inquiry import accepted_html
from service.web.notes.map import LEGEND_ORDER

Notes = Mapping[str, Note]

_STATUS = {"untested": "not tested yet", "supported": "supported", "refuted": "refuted", "underpowered": "underpowered"}
_SHOWN = 8


def named_in(view: NoteView) -> list[str]:
    """The ids of all notes that the page names."""
    ids = [link.target for link in view.links] + [link.source for link in view.backlinks]
    ids += [note_id for note_id, _ in view.similar] + list(view.inquiries)
    ids += [note_id for claim in view.note.claims for note_id in claim.evidence]
    return list(dict.fromkeys(ids))


def title_html(view: NoteView) -> str:
    note = view.note
    gist = (
        "" if note.kind is NoteKind.STUB or not note.gist or _opens_with(note) else f'<p class="gist">{inline(note.gist)}</p>'
    )
    ask = f" · {ask_link(note.title, 'Ask this')}" if note.title.rstrip().endswith("?") else ""
    return f'<p class="overline">{text(note.kind)}{ask}</p><h1>{text(note.title)}</h1>{gist}'


def _opens_with(note: Note) -> bool:
    """Whether the text begins with the gist anyway."""
    return note.gist.rstrip(" .…")[:60] in note.text[:400]


def text_html(
    view: NoteView,
    notes: Notes,
    note_href: NoteHref,
    warnings: Sequence[str] = (),
    passages: int = 0,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """`warnings`: what was odd when its file was read; `passages`: in how many it is searched; `pictures`: that we drew."""
    note = view.note
    if note.kind is NoteKind.STUB:
        who = "".join(f"<li>{_named(link.source, notes)}{_why(link)}</li>" for link in _once(view.backlinks, of_source=True))
        number = len({link.source for link in view.backlinks})
        refer = f"{counted(number, 'note')} {'refers' if number == 1 else 'refer'} to it:"
        return f'<p class="lede">Nobody has written this note yet.</p><p>{refer}</p><ul class="link-list">{who}</ul>'
    body = '<p class="quiet">This note has no text.</p>'
    if note.text.strip():
        body = render(note.text, note_href=note_href, title_of=lambda other: _title(other, notes), pictures=pictures)
    claims = "".join(_claim(claim, notes) for claim in note.claims)
    inquiries = "".join(f"<li>{_named(note_id, notes)}</li>" for note_id in view.inquiries)
    listed = f'<ul class="link-list">{inquiries}</ul>' if inquiries else ""
    standing = str(note.properties.get("original") or note.path)
    foot = [standing, f"indexed in {counted(passages, 'passage')}" if passages else ""]
    path = f'<p class="path quiet">{"<br>".join(text(line) for line in (*foot, *warnings) if line)}</p>' if standing else ""
    below = _part("Claims", claims) + _part("Inquiries that use this note", listed)
    run = str(note.properties.get("run_id") or "") if note.kind is NoteKind.EVIDENCE else ""
    of = f'<p class="quiet">{run_link(run, "The run it was made of")}</p>' if run else ""
    return f'<div class="note-body">{body}</div>{of}{below}{path}'


def _part(title: str, inner: str) -> str:
    return f'<section class="part"><h2>{title}</h2>{inner}</section>' if inner else ""


def _claim(claim: Claim, notes: Notes) -> str:
    evidence = ", ".join(_named(note_id, notes) for note_id in reversed(claim.evidence))
    rows = [
        ("Rests on", inline(claim.premise)),
        ("Settled by", inline(claim.settles)),
        ("Evidence", evidence),
        ("Status", text(claim.status_reason)),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    status = text(_STATUS.get(claim.status, claim.status))
    return (
        f'<div class="claim" id="claim-{text(claim.id)}"><p>{inline(claim.text)} '
        f'<span class="status {text(claim.status)}">{status}</span></p><dl>{listed}</dl></div>'
    )


def links_html(view: NoteView, notes: Notes, accepted: Collection[str] = ()) -> str:
    """Typed links by type, dissent first; then who links here, and the notes nearest in meaning. `accepted`: the notes that
    hold links which a person accepted here."""
    parts = []

    def tail(link: Link) -> str:
        return _why(link) + (accepted_html(view.note.id, link) if link.writer in accepted else "")

    out = _once(view.links)
    for type_ in LEGEND_ORDER:
        typed = [link for link in out if link.type is type_]
        parts.append(_group(verb(type_), [f"{_named(link.target, notes)}{tail(link)}" for link in typed], cls=str(type_)))
    into = sorted(_once(view.backlinks, of_source=True), key=lambda link: LEGEND_ORDER.index(link.type))
    parts.append(_group("linked from", [f"{_named(link.source, notes)} <em>{_seen(link)}</em>{tail(link)}" for link in into]))
    similar = [f'{_named(note_id, notes)} <span class="cosine">{score:.2f}</span>' for note_id, score in view.similar]
    parts.append(_group("similar in meaning", similar, '<span class="quiet">cosine</span>'))
    return "".join(parts) or '<p class="quiet">No other note is linked with this one.</p>'


def _once(links: Sequence[Link], of_source: bool = False) -> list[Link]:
    """One link for each other note and type; a plain mention gives way to any link with a type."""
    best: dict[tuple[str, LinkType], Link] = {}
    for link in links:
        key = (link.source if of_source else link.target, link.type)
        if key not in best or (link.why and not best[key].why):
            best[key] = link
    typed = {other for other, type_ in best if type_ is not LinkType.MENTIONS}
    return [link for (other, type_), link in best.items() if type_ is not LinkType.MENTIONS or other not in typed]


def _group(title: str, items: Sequence[str], aside: str = "", cls: str = "") -> str:
    if not items:
        return ""
    listed = [f"<li>{item}</li>" for item in items]
    more = listed[_SHOWN + 2 :] and listed[_SHOWN:]
    shown = listed[:_SHOWN] if more else listed
    rest = f'<details><summary>{len(more)} more</summary><ul class="link-list">{"".join(more)}</ul></details>' if more else ""
    return (
        f'<section class="links {cls}"><h2>{title} <span class="count">{len(items)}</span> {aside}</h2>'
        f'<ul class="link-list">{"".join(shown)}</ul>{rest}</section>'
    )


def _seen(link: Link) -> str:
    return f"{verb(link.type)} this"


def _why(link: Link) -> str:
    return f' <span class="why">{inline(link.why)}</span>' if link.why else ""


def _title(note_id: str, notes: Notes) -> str:
    return notes[note_id].title if note_id in notes else ""


def _named(note_id: str, notes: Notes) -> str:
    note = notes.get(note_id)
    return note_link(note_id, note.title if note else note_id, "stub" if note and note.kind is NoteKind.STUB else "")


# -- without a chosen note, and while searching ----------------------------------------------------------------------


def results_html(query: str, titles: Sequence[tuple[str, str]], hits: Sequence[Hit]) -> str:
    """Search as you type: titles first, then what the texts say."""
    if not query.strip():
        return ""
    by_title = "".join(f"<li>{note_link(note_id, title)}</li>" for note_id, title in titles)
    by_text = "".join(
        f'<li>{note_link(hit.note_id, hit.title)} <span class="gist">{text(_opening(hit.text))}</span></li>' for hit in hits
    )
    found = (f'<h2>Titles</h2><ul class="link-list">{by_title}</ul>' if by_title else "") + (
        f'<h2>Texts</h2><ul class="source-list">{by_text}</ul>' if by_text else ""
    )
    return found or f'<p class="quiet">No note has to do with “{text(query.strip()[:80])}”.</p>'


def _opening(passage: str) -> str:
    """The first words of a passage below its heading."""
    words = plain(re.sub(r"\A(?:\s*#{1,6} [^\n]*\n)+", "", passage)[:400])
    return words if len(words) <= 170 else f"{words[:170].rsplit(' ', 1)[0]}…"


def start_html(
    inquiries: Sequence[Note],
    linked: Sequence[tuple[Note, int]],
    disputes: Sequence[tuple[Link, Note, Note]],
    stale: Collection[str] = (),
) -> str:
    """Where to begin: the inquiries, the `stale` ones marked, the most linked notes, and where notes contradict each other."""
    mark = ' <span class="stale-mark">stale</span>'
    asked = "".join(f"<li>{note_link(note.id, note.title)}{mark if note.id in stale else ''}</li>" for note in inquiries)
    most = "".join(f'<li>{_named(note.id, {note.id: note})} <span class="count">{count}</span></li>' for note, count in linked)
    dissent = "".join(
        f"<li>{note_link(a.id, a.title)} <em>{verb(link.type)}</em> {note_link(b.id, b.title)}{_why(link)}</li>"
        for link, a, b in disputes
    )
    parts = [("Inquiries", asked), ("Most linked", most), ("Where notes disagree", dissent)]
    return "".join(_part(title, f'<ul class="link-list">{items}</ul>') for title, items in parts if items)
