"""What a person's click on a note's page does: ask an inquiry again, accept, dismiss or take back a link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kb.knowledge_base import KnowledgeBase
from kb.notes import LinkType, PasskbError
from service.inquiries.refresh import refresh
from service.inquiries.save import EditedByHand
from service.llm.client import Model
from service.suggestions.accepted_links import accept_link, remove_link
from service.suggestions.dismissals import dismiss
from service.suggestions.link_types import propose_link_types
from service.suggestions.ranking import Suggestion, suggest_links
from service.web.components.html import explained, sentence
from service.web.notes.inquiry import edited_html


@dataclass(frozen=True, slots=True)
class Tended:
    """What to show above the note afterwards; `act` is what was done, empty when nothing was. `found`: suggestions with a
    model's types and reasons, where it was asked for them."""

    told: str = ""
    act: str = ""
    found: Sequence[Suggestion] | None = None


def tend(kb: KnowledgeBase, given: Mapping[str, Any], model: Model | None = None) -> Tended:
    """`given`: `act`, the note it is `of`, and for links `from`, `to`, `type` and `why`. Never raises."""
    act, note_id, source, target = (str(given.get(key) or "") for key in ("act", "of", "from", "to"))
    try:
        if act in ("refresh", "replace"):
            refresh(kb, note_id, model, replace_edited=act == "replace")
        elif act == "accept":
            named = str(given.get("type") or LinkType.RELATED)
            accept_link(
                kb, source, target, LinkType(named) if named in set(LinkType) else LinkType.RELATED, str(given.get("why") or "")
            )
        elif act == "dismiss":
            dismiss(kb.home, source, target)
        elif act == "take_back":
            remove_link(kb, source, target)
        elif act == "propose" and model is not None:
            found, fault = propose_link_types(kb, suggest_links(kb, note_id), model)
            return Tended(sentence(fault) if fault else "", act, found)
        else:
            raise PasskbError("there is no such thing to be done")
    except EditedByHand as error:
        return Tended(edited_html(note_id, str(error)))
    except Exception as error:
        return Tended(sentence(explained(error)))
    return Tended(act=act)
