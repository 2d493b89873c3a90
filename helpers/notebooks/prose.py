"""Unchecked claims and broken links in Markdown: in the cells of a notebook, or in a page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext
from markdown_it import MarkdownIt
from markdown_it.token import Token

from helpers.notebooks.problem import Problem

# --- numbers --------------------------------------------------------------------------------------

# What may hold a number: code, formulas, HTML tags and comments, links, names of other things.
_NO_PROSE = re.compile(
    r"""
      ^(`{3,}|~{3,}).*?^\1                        # fenced code
    | (`+)(?!`)(?:(?!\n\n).)+?(?<!`)\2(?!`)       # code span
    | \$\$.+?\$\$ | \$[^$\n]+\$                   # formula
    | <!--.*?--> | </?[a-zA-Z][^>\n]*>            # comment, tag, <https://…>
    | (?<=\])\([^)\n]*\) | https?://\S+           # target of a link
    | \b\d{4}\.\d{4,5}(?:v\d+)?\b                 # arXiv
    | \d+(?:\.\d+){2,} | \bPython[ ]\d\.\d+       # version
    | ^\#+[ ]+\d+(?:\.\d+)*\.?[ ]                 # number of a section
    | (?:§|\b(?:[Ss]ections?|[Ff]igures?|[Tt]ables?|[Ee]quations?|[Aa]ppendix))[ ]?[A-Z]?\.?[\d.]+
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_CLAIM = re.compile(
    r"""
      (?<![\w.-])[-+−]?\d+(?:\.\d+)?\s?(?:%|per[ ]?cent\b)
    | (?<![\w.-])[-+−]?\d+\.\d+
    | \bL\d+\.?H\d+\b
    | \b(?:layers?|heads?)[ ]\d+\b
    | (?<![\w.-])\d+[ ](?:out[ ])?of[ ](?:(?:the|its|these|those|all)[ ])?\d+\b
    | (?<![\w.-])\d+(?:\s?×(?!\s?\d)|-fold\b|[ ]logits?\b)
    | (?<![\w.-])\d+[ ]times[ ](?:as|more|less|fewer|larger|smaller)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _masked(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def claims(markdown: str) -> list[str]:
    """Decimals, percentages, ratios (8 of 9, 3-fold, 20×, 3 times as large), logits and components
    named by number (L9H9, 9.9, layer 9) in the prose.

    Such a number is a statement about some run; in prose nothing checks it. Exempt is what is not
    prose: code, formulas, link targets, arXiv and version numbers, numbers of sections.
    """
    return [claim.group().strip() for claim in _CLAIM.finditer(_NO_PROSE.sub(_masked, markdown))]


def check_claims(name: str, markdown: str, cell: int | None = None) -> list[Problem]:
    """A problem for each number in prose that nothing checks."""
    do = "Print it in a code cell, or, if it is no result of a run, write it as code or a formula"
    return [Problem(name, f"prose states {claim!r}", do, cell) for claim in claims(markdown)]


# --- links ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinkRules:
    """`root`: the repository's folder; `repository`: its owner/name; `hosts`: where links may go.

    A subdomain needs an entry of its own.
    """

    root: Path
    repository: str
    hosts: frozenset[str]


_HTML_LINK = re.compile(r"""(?:href|src)\s*=\s*["']([^"']*)["']""", re.IGNORECASE)
_HTML_ANCHOR = re.compile(r"""(?:id|name)\s*=\s*["']([^"']*)["']""", re.IGNORECASE)
_BARE = re.compile(r"https?://[^\s<>()\"'`]+")
# A link that names a repository: Colab, Binder, the badge of a workflow.
_BADGE = re.compile(
    r"https://(?:colab\.research\.google\.com/github|mybinder\.org/v2/gh"
    r"|github\.com(?=/[^/]+/[^/]+/actions/))/([^/]+/[^/?#]+)"
)
_COLAB_FILE = re.compile(r"https://colab\.research\.google\.com/github/[^/]+/[^/]+/blob/[^/]+/(.+)")


def _flat(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def links(markdown: str) -> list[str]:
    """Every link and picture of the text: in Markdown, in HTML, and bare addresses."""
    found: list[str] = []
    for token in _flat(MarkdownIt("commonmark").enable("table").parse(markdown)):
        if token.type == "link_open":
            found.append(str(token.attrs["href"]))
        elif token.type == "image":
            found.append(str(token.attrs["src"]))
        elif token.type in ("html_inline", "html_block"):
            found += _HTML_LINK.findall(token.content)
            # What stands between the tags of an HTML block is Markdown only after a blank line.
            found += _BARE.findall(re.sub(r"<[^>]*>", " ", token.content))
        elif token.type == "text":
            found += [address.rstrip(".,;:!?") for address in _BARE.findall(token.content)]
    return list(dict.fromkeys(found))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(markdown: str) -> set[str]:
    """What `#…` links within the text can point to: headings, and ids in HTML. In lower case."""
    headings = re.findall(r"^#+\s+(.*?)\s*#*$", markdown, re.MULTILINE)
    slugs = {slug(heading) for heading in headings}
    plain = {heading.lower().replace(" ", "-") for heading in headings}
    return slugs | plain | {anchor.lower() for anchor in html_anchors(markdown)}


def html_anchors(html: str) -> list[str]:
    """The ids and names in the tags of a text."""
    return _HTML_ANCHOR.findall(html)


def _web_fault(link: str, host: str, rules: LinkRules) -> str | None:
    badge = _BADGE.match(link)
    if badge and badge[1] != rules.repository:
        return f"it names {badge[1]}; `repository` under [tool.demos] is {rules.repository!r}"
    colab = _COLAB_FILE.match(link)
    if colab and not _exists(rules.root / unquote(colab[1])):
        return f"there is no {colab[1]} in this repository"
    if host not in rules.hosts:
        return f"{host} is not among the `hosts` under [tool.demos]"
    return None


def _file_fault(path: str, fragment: str, folder: Path, rules: LinkRules) -> str | None:
    target = Path(os.path.abspath(folder / unquote(path)))
    if path.startswith("/") or not target.is_relative_to(os.path.abspath(rules.root)):
        return "it leaves this repository"
    if not _exists(target):
        return "there is no such file"
    page = target if target.suffix == ".md" else _script_of(target)
    if page is None or not fragment:
        return None
    known = anchors(_markdown(page, page.stat().st_mtime_ns))
    return None if unquote(fragment).lower() in known else f"there is no such heading in {target.name}"


def _script_of(target: Path) -> Path | None:
    """A notebook's script, beside it or, for another model's notebook, in the folder above."""
    if target.suffix != ".ipynb":
        return None
    beside, above = (folder / f"{target.stem}.py" for folder in target.parents[:2])
    return next((path for path in (beside, above) if path.is_file()), None)


@cache
def _markdown(page: Path, changed_at: int) -> str:
    """A page's Markdown: all of it, or that of a script's cells. It is read again once it changed."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = jupytext.reads(text, fmt="py:percent").cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def _exists(target: Path) -> bool:
    """A notebook counts once its script is there, so that demos which link to each other can be made.

    That it is missing is found, and said, by the check of the folder.
    """
    return target.exists() or _script_of(target) is not None


def link_fault(link: str, folder: Path, known: set[str], rules: LinkRules) -> str | None:
    """Why a link of a file in `folder` leads nowhere, or not where it may. None if it is fine.

    No link is opened: a web address is checked against the allowed hosts only.
    """
    parts = urlsplit(link)
    if parts.scheme == "https":
        return _web_fault(link, parts.netloc, rules)
    if parts.scheme or parts.netloc:
        return "it is neither relative nor https"
    if parts.path:
        return _file_fault(parts.path, parts.fragment, folder, rules)
    return None if unquote(parts.fragment).lower() in known else "there is no such heading"


_INSTALL = re.compile(r"https://github\.com/([\w.-]+/[\w.-]*[\w-])")


def check_install(name: str, code: str, rules: LinkRules, cell: int) -> list[Problem]:
    """A problem if code names another repository on GitHub: Colab would install from there."""
    do = "Write the `repository` that stands under [tool.demos]"
    named = {repository.removesuffix(".git") for repository in _INSTALL.findall(code)}
    others = named - {rules.repository}
    return [Problem(name, f"code names {other}", do, cell) for other in sorted(others)]


def check_links(
    name: str, markdown: str, folder: Path, known: set[str], rules: LinkRules, cell: int | None
) -> list[Problem]:
    """A problem for each link that is broken or not allowed."""
    faults = [(link, link_fault(link, folder, known, rules)) for link in links(markdown)]
    return [
        Problem(name, f"link {link}: {fault}", "Correct or remove it", cell)
        for link, fault in faults
        if fault
    ]
