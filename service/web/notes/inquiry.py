"""What a note's page adds for a person to tend: an inquiry's standing and what changed in it, and suggested links. Pure.

Every button here is followed only when a person presses it; what it does is done by `service.web.notes.actions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kb.notes import Link, LinkType
from service.inquiries.answer_diff import ChangedSentence, Changes
from service.inquiries.front_matter import StaleReason
from service.inquiries.staleness import InquiryStatus
from service.suggestions.ranking import Suggestion
from service.web.components.html import counted, note_link, text, verb

_FEW = 3  # suggestions that are shown unfolded


def standing_html(entry: InquiryStatus, known: Iterable[str] = ()) -> str:
    """Whether an inquiry is stale, and why; `known`: the ids of notes that can be opened."""
    record, there = entry.record, set(known)
    how = f"written by {text(record.model or 'a model')}" if record.mode == "generated" else "in quotes"
    day = text(record.asked[:10])
    if not entry.reasons:
        calm = f"Asked on {day}, {how}. Its sources are as they were."
        return f'<div class="standing"><p class="quiet">{calm} {_button("refresh", entry.note.id, "Ask again")}</p></div>'
    reasons = "".join(f"<li>{_reason(reason, there)}</li>" for reason in entry.reasons)
    return (
        f'<div class="standing stale" role="status"><p><strong class="stale-mark">Stale</strong> Asked on {day}, {how}. '
        f"Since then {counted(len(entry.reasons), 'thing')} it stood on {'has' if len(entry.reasons) == 1 else 'have'} "
        f"changed:</p><ul>{reasons}</ul><p>{_button('refresh', entry.note.id, 'Ask again', main=True)}</p></div>"
    )


def _reason(reason: StaleReason, there: set[str]) -> str:
    if reason.kind == "changed" and reason.was:
        named = note_link(reason.note_id, reason.title) if reason.note_id in there else text(f"“{reason.title}”")
        now = f"<ins>{text(reason.now)}</ins>" if reason.now else '<span class="quiet">nothing like it</span>'
        return f"{named} says otherwise now: <del>{text(reason.was)}</del> {now}"
    opened = f" {note_link(reason.note_id, 'Open it')}" if reason.note_id in there else ""
    return f"{text(reason.text[:1].upper() + reason.text[1:])}.{opened}"


def edited_html(note_id: str, message: str) -> str:
    """A person's own words stand in the note: what asking again would do, and a button for it."""
    what = "Asking again would put a new version in its place, and keep yours in the hidden folder <code>.earlier</code>."
    button = _button("replace", note_id, "Do so", main=True)
    return f'<div class="standing" role="alert"><p>{text(message)}. {what}</p><p>{button}</p></div>'


def changes_html(found: Changes, *, shown: bool) -> str:
    """What changed when the answer was last written; unfolded when it has just been. Reasons that stand beside a sentence that
    went are not told twice."""
    further = [reason for reason in found.because if not any(entry.text in reason for entry in found.removed)]
    because = "".join(f"<li>{text(reason[:1].upper() + reason[1:])}</li>" for reason in further)
    lines = [*_sentences(found.removed, "del", "Gone"), *_sentences(found.added, "ins", "New")]
    lines += [f'<li class="quiet">{counted(len(found.unchanged), "sentence")} unchanged</li>'] if found.unchanged else []
    why = f'<p class="quiet">What happened to its sources</p><ul>{because}</ul>' if because else ""
    return (
        f'<details class="changes"{" open" if shown else ""}><summary>What changed in the answer</summary>'
        f'<ul class="diff">{"".join(lines)}</ul>{why}</details>'
    )


def _sentences(entries: Sequence[ChangedSentence], tag: str, word: str) -> list[str]:
    return [
        f'<li><span class="diff-mark">{word}</span> <{tag}>{text(entry.text)}</{tag}> '
        f'<span class="why">{text(entry.why)}</span></li>'
        for entry in entries
    ]


def suggestions_html(note_id: str, found: Sequence[Suggestion], *, shown: bool = False, can_propose: bool = False) -> str:
    """The links that the note probably lacks, each with its reasons and what can be done about it."""
    if not found:
        return ""
    items = "".join(_suggestion(note_id, entry) for entry in found)
    propose = f"<p>{_button('propose', note_id, 'Propose types and reasons')}</p>" if can_propose else ""
    inner = f'<ul class="link-list">{items}</ul>{propose}'
    opened = " open" if shown or len(found) <= _FEW else ""
    return (
        f'<section class="links suggested"><details{opened}><summary>Suggested links <span class="count">{len(found)}</span>'
        f"</summary>{inner}</details></section>"
    )


def _suggestion(note_id: str, entry: Suggestion) -> str:
    grounds = "".join(f'<span class="why">{text(ground.text)}</span>' for ground in entry.signals)
    if entry.by:
        way = verb(entry.type) if entry.source == note_id else f"{verb(entry.type)} this, it"
        told = f'<span class="why"><em>{way}</em>: {text(entry.why)} <span class="quiet">({text(entry.by)})</span></span>'
        grounds = told + grounds
    ends = {"from": entry.source, "to": entry.target, "type": str(entry.type), "why": entry.why}
    data = "".join(f' data-{name}="{text(value)}"' for name, value in ends.items())
    label = "Accept" if entry.type is LinkType.RELATED else f"Accept “{verb(entry.type)}”"
    return (
        f"<li>{note_link(entry.other, entry.title)}{grounds}"
        f'<span class="tend">{_button("accept", note_id, label, more=data)} '
        f"{_button('dismiss', note_id, 'Dismiss', more=data)}</span></li>"
    )


def accepted_html(note_id: str, link: Link) -> str:
    """Beside a link that a person accepted: where it stands, and how to be rid of it."""
    where = note_link(link.writer, "accepted")
    return f' <span class="tend quiet">{where} {_button("take_back", note_id, "Take back", more=_ends(link))}</span>'


def accepted_list_html(note_id: str, links: Sequence[Link], titles: Mapping[str, str]) -> str:
    """What a note of accepted links says, which is all in its front matter."""
    items = "".join(
        f"<li>{note_link(link.source, titles.get(link.source, link.source))} <em>{verb(link.type)}</em> "
        f"{note_link(link.target, titles.get(link.target, link.target))}"
        f'{f"""<span class="why">{text(link.why)}</span>""" if link.why else ""}'
        f'<span class="tend">{_button("take_back", note_id, "Take back", more=_ends(link))}</span></li>'
        for link in links
    )
    return f'<p>Links that were accepted here:</p><ul class="link-list">{items}</ul>'


def _ends(link: Link) -> str:
    return f' data-from="{text(link.source)}" data-to="{text(link.target)}"'


def linked_ids(html: str, ids: Iterable[str]) -> str:
    """A note's HTML with the ids of notes that it names in code as links to them."""
    for note_id in ids:
        html = html.replace(f"<code>{text(note_id)}</code>", f"<code>{note_link(note_id, note_id)}</code>")
    return html


def _button(act: str, note_id: str, label: str, *, more: str = "", main: bool = False) -> str:
    cls = "act" if main else "small"
    return f'<button type="button" class="{cls}" data-tend="{act}" data-of="{text(note_id)}"{more}>{text(label)}</button>'
