"""Applies the buttons of a note's page: ask an inquiry again; accept, dismiss or remove a link; propose link types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from kb.notes import LinkType, PasskbError
from service.inquiries.refresh import refresh
from service.inquiries.save import EditedByHand
from service.llm.client import Model
from service.suggestions.accepted_links import accept_link, remove_link
from service.suggestions.dismissals import dismiss
from service.suggestions.link_types import propose_link_types
from service.suggestions.ranking import Suggestion, suggest_links
from service.web.components.messages import error_html, message_html
from service.web.notes.inquiry import edited_html

_EMPTY = Markup()


@dataclass(frozen=True, slots=True)
class ActionResult:
    """`message`: HTML to show above the note. `action`: what was done, empty on failure. `suggestions`: with a model's
    proposed types and reasons, after `propose`."""

    message: Markup = _EMPTY
    action: str = ""
    suggestions: Sequence[Suggestion] | None = None


def apply_action(kb: KnowledgeBase, event: Mapping[str, Any], model: Model | None = None) -> ActionResult:
    """`event`: `act` (the action), the note it is `of`, and for links `from`, `to`, `type` and `why`. Never raises."""
    action, note_id, source, target = (str(event.get(key) or "") for key in ("act", "of", "from", "to"))
    try:
        if action in ("refresh", "replace"):
            refresh(kb, note_id, model, replace_edited=action == "replace")
        elif action == "accept":
            name = str(event.get("type") or LinkType.RELATED)
            link_type = LinkType(name) if name in set(LinkType) else LinkType.RELATED
            accept_link(kb, source, target, link_type, str(event.get("why") or ""))
        elif action == "dismiss":
            dismiss(kb.home, source, target)
        elif action == "take_back":
            remove_link(kb, source, target)
        elif action == "propose" and model is not None:
            suggestions, fault = propose_link_types(kb, suggest_links(kb, note_id), model)
            return ActionResult(message_html(fault) if fault else _EMPTY, action, suggestions)
        else:
            raise PasskbError("unknown action")
    except EditedByHand as error:
        return ActionResult(edited_html(note_id, str(error)))
    except Exception as error:
        return ActionResult(error_html(error))
    return ActionResult(action=action)
