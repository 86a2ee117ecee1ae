"""Texts in which every construct of a note opens, again and again, and mostly never closes. Each grows to any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Text = Callable[[int], str]


def repeated(unit: str, before: str = "", after: str = "") -> Text:
    """`unit` as often as it fits into that many characters."""
    return lambda size: before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def nested(opener: str, closer: str, middle: str = "x") -> Text:
    """Openers, then as many closers."""

    def text(size: int) -> str:
        depth = (size - len(middle)) // (len(opener) + len(closer))
        return opener * depth + middle + closer * depth

    return text


def stairs(unit: str, line: str = "x\n") -> Text:
    """Lines that each begin with one `unit` more than the line above: nesting as deep as the size allows."""

    def text(size: int) -> str:
        lines: list[str] = []
        while size > 0:
            lines.append(unit * len(lines) + line)
            size -= len(lines[-1])
        return "".join(lines)

    return text


OPENERS = (
    "<!-- ", "<!--", "<!---", "%% ", "%%", "%", "``` ", "```\n", "~~~\n", "`", "` ", "`` ` ", "``", "[[", "![[", "[[a|", "[",
    "![", "[a", "(", "](", "[](", "[a](", "[a](<", "[a](b \"", "[a](b 'c", "[a](b (", "[a]: ", "[a]: <", "[a][", "[](((",
    "((", "$", "$ ", "$a", "$$", "$$\n", "a$$", "$$a$", "**", "*", "* ", "*a ", "**a ", "***a", "_", "_a ", "__a ", "*_",
    "*a_", "**a*", "_a*", "~~", "~~a ", "==", "==a ", "<div", "<div>", "<a href=\"", "<a href='", "<", "</", "<a ", "<?",
    "<![CDATA[", "<!A ", "<pre", "<script>\n", "<http://", "http://", "https://a", "www.", "&", "&#", "&amp", "&lt;", "&a",
    ">", "> ", ">\n", "> > ", "- ", "-\n", "- a\n", "1. ", "1. a\n", "+ ", "- [ ] ", "|", "| ", "|a", "a|b\n", "|-",
    "|a|\n|-|\n", "| --- ", "^[", "^[a", "[^", "[^a", "[^a] ", "[^a]: ", "^", " ^a", " ^a\n", "key:: ", "key::", "key:: a\n",
    "[key:: ", "(key:: ", "contradicts:: ", "contradicts:: [[a]] ", "[contradicts:: [[a]] ", "(supports:: ", "supports:: a\n",
    "---\n", "---", "...\n", "--- \n", "{", "{{", "{{embed ", "{{embed [[", "{{a ", "{:", "}}", "\\boxed{", "\\", "\\\\",
    "\\(", "\\[", "\\[ ", "\\begin{align}", "\\begin{align}\n", "\\|", "<think>", "</think>", "#", "# ", "# a\n", "## a\n",
    "#a", "#a ", "#[[", "a\n=", "a\n===\n", "a\n---\n", "=\n", "\t", "\t\n", "\ta\n", " ", " \n", "\n", "\n\n", "\r", "\r\n",
    "    a\n", "a\n    ", ".", ". ", "a. ", "a.b", "e.g. ", "? ", "?!", "…", "“", "\"", "'", "'a ", "\"a ", "a  \n",
    ":LOGBOOK:\n", ":END:\n", "#+BEGIN_SRC\n", "#+BEGIN_QUERY\n", "#+a\n", "[!note] ", "> [!note]\n", "> [!", "[!", "!", ":",
    "::", "a::", "a:: b ", "- key:: a\n", "* * ", "- - ", "_ _ _", "a", "ab ", "é", "́", "一。", "字", "🦊", "\u200b", "\u200d",
    "\ue000", "𐩐", "\x0b", "\x1c", "1", "1.", "1,", "1 ", "0.0.", "a-", "a_b", "a_b_", "_a_b", "-", "--", "=", "@", "a@b.",
    "/", "//", "a/b", "\\{", "\\text{", "\\frac{", "^{", "_{", "$\\frac{", "$x^{", "title: a\n", "a: [", "a: {", "a: &a\n",
    "a: *a\n", "- - a\n", "a: b\n", "? a\n", "!!python ", "alias:: a, ", "id:: 12345678-1234-1234-1234-123456789012\n",
    "((12345678-1234-1234-1234-123456789012))", "((12345678-", "SCHEDULED: <", "[x] ", "Sources\n", "Sources: ",
    "## References\n\na\n", "because ", "[[a]]; ", "[[a]] and ", "![[a.png]] ", "[a](a.md) ", "![a](a.png) ",
)  # fmt: skip

PAIRS = (
    ("<!--", "-->"), ("%%", "%%"), ("[", "]"), ("[[", "]]"), ("![", "](x)"), ("[", "](x)"), ("(", ")"), ("*", "*"),
    ("**", "**"), ("_", "_"), ("*a ", " a*"), ("*_", "_*"), ("~~", "~~"), ("==", "=="), ("<", ">"), ("<a>", "</a>"),
    ("{", "}"), ("{{", "}}"), ("\\{", "\\}"), ("\\left(", "\\right)"), ("\\boxed{", "}"), ("\\(", "\\)"), ("$", "$"),
    ("`", "`"), ("^[", "]"), ("[^a]", ""), ("> ", "\n"), ("- ", "\n"), ("<think>", "</think>"),
    ("\\begin{align}", "\\end{align}"), ("\"", "\""), ("“", "”"), ("[contradicts:: ", "]"), ("(key:: ", ")"),
)  # fmt: skip


def _texts() -> dict[str, Text]:
    texts: dict[str, Text] = {}
    for opener in OPENERS:
        texts[f"{opener!r} repeated"] = repeated(opener)
        if "\n" not in opener:
            texts[f"{opener!r} on lines"] = repeated(f"{opener}\n")
    for opener, closer in PAIRS:
        texts[f"{opener!r} {closer!r} nested"] = nested(opener, closer)
        texts[f"{opener!r} then one {closer!r}"] = repeated(opener, after=f"x{closer}")
        texts[f"{closer!r} only"] = repeated(f"{closer or 'x'} ")
    for unit in ("> ", "- ", "  ", "1. ", "\t", "#", "`", "*", "[", "$", "> - "):
        texts[f"{unit!r} in stairs"] = stairs(unit)
    texts["'  - ' in stairs"] = stairs("  ", "- x\n")
    texts["'> ' in stairs of fences"] = stairs("> ", "```\n")
    for before in (
        "---\n",
        "---\nlinks:\n",
        "---\na: |\n",
        "| a | b |\n|---|---|\n",
        "- a\n",
        "# a\n",
        "> a\n",
        "a ",
        "[a]: b\n",
        "```\n",
        "$$\n",
    ):
        for unit in ("a: [", "- ", "[[a]] ", "| a ", "<!-- ", "%% ", "a\n", "> ", "$$ ", "[a]", "\n"):
            texts[f"{before!r} then {unit!r}"] = repeated(unit, before)
    texts["footnotes"] = lambda size: "".join(f"[^{i}] [^{i}]: a\n\n" for i in range(size // 22))
    texts["definitions"] = lambda size: "".join(f"[{i}]: a\n[{i}] " for i in range(size // 20))
    texts["ticks of every length"] = lambda size: " ".join("`" * i for i in range(1, int((2 * size) ** 0.5)))
    texts["fences of every length"] = lambda size: "\n".join("`" * i for i in range(3, int((2 * size) ** 0.5)))
    texts["headings"] = lambda size: "".join(f"{'#' * (i % 6 + 1)} {i}\n" for i in range(size // 10))
    texts["a wide table"] = lambda size: f"{'|a' * (size // 4)}|\n{'|-' * (size // 4)}|\n"
    texts["a table and rows without cells"] = lambda size: (
        f"{'|a' * (size // 12)}|\n{'|-' * (size // 12)}|\n" + "|a\n" * (size // 5)
    )
    return texts


TEXTS: Mapping[str, Text] = _texts()
