"""The sign-in page: a plain form that needs no script. Pure."""

from __future__ import annotations

from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · passkb</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --line: #8c959f; --accent: #1d4ed8; --alert: #b42318; }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #6e7681; --accent: #3b82f6; --alert: #ff8f85; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem;
  font: 16px/1.5 system-ui, sans-serif; }}
main {{ width: 100%; max-width: 22rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .25rem; }}
p {{ margin: 0 0 1rem; }}
label {{ display: block; font-weight: 600; margin-bottom: .25rem; }}
input {{ width: 100%; font: inherit; padding: .5rem .75rem; margin-bottom: 1rem;
  border: 1px solid var(--line); border-radius: 6px; }}
button {{ width: 100%; font: inherit; font-weight: 600; padding: .6rem; border: 0; border-radius: 6px; color: #fff;
  background: var(--accent); cursor: pointer; }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
.alert {{ color: var(--alert); font-weight: 600; }}
</style>
</head>
<body>
<main>
<h1>passkb</h1>
<p>Sign in to read and ask your notes.</p>
{alert}<form method="post" action="/login">
<input type="hidden" name="next" value="{target}">
<label for="username">User name</label>
<input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required
 value="{user}"{first}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{second}>
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""
_RETURN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>passkb</title>
<meta http-equiv="refresh" content="0; url={target}"></head><body><a href="{target}">Open passkb</a></body></html>
"""


def login_page(target: str, user: str = "", alert: str = "") -> str:
    """`target`: the path to open afterwards. `alert`: what went wrong with the last try."""
    told = f'<p class="alert" role="alert">{escape(alert)}</p>\n' if alert else ""
    first, second = ("", " autofocus") if user else (" autofocus", "")
    return _PAGE.format(target=escape(target), user=escape(user), alert=told, first=first, second=second)


def return_page(target: str) -> str:
    """Opens `target` from this site: a browser sends a strict cookie only then, and not when a link elsewhere was followed."""
    return _RETURN.format(target=escape(target))
