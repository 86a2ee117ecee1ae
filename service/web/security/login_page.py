"""The sign-in page, a plain form without scripts, and the page that returns to the app from another site."""

from __future__ import annotations

from service.web.components.templates import render


def login_page(target: str, user: str = "", alert: str = "") -> str:
    """`target`: the path to open after signing in. `alert`: why the last attempt failed."""
    return render("security/login.html", target=target, user=user, alert=alert)


def return_page(target: str) -> str:
    """Opens `target` from this site, because browsers send no SameSite=Strict cookie with a link followed on another site."""
    return render("security/return.html", target=target)
