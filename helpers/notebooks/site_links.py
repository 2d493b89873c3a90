"""Where links and pictures of the demos lead on the web pages: a Sphinx extension.

A demo's relative addresses count from its folder in the repository. On the site, those of other demos
are pages, those of pictures become the pictures, and all others lead to the repository. Markdown's own
parser has found them by then: what stands in code or in a formula is no link, whatever it looks like.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from helpers.notebooks.prose import html_anchors, slug

_GITHUB = "https://github.com/"
_IN_HTML = {"href": "link", "src": "picture"}


def is_relative(address: str) -> bool:
    """Whether it names a file from the place where it stands: no server, no heading of the same page."""
    parts = urlsplit(address)
    return bool(parts.path) and not (parts.scheme or parts.netloc or parts.path.startswith("/"))


def in_repository(address: str, repository: str) -> str:
    """Where a relative address of a demo is to be seen on GitHub."""
    parts = urlsplit(address)
    path = quote(os.path.normpath(f"demos/{unquote(parts.path)}"))
    return urlunsplit(parts._replace(path=f"{_GITHUB}{repository}/blob/main/{path}"))


def as_data(picture: Path) -> str:
    """The picture itself as an address, which needs no file beside the page.

    Raises:
        FileNotFoundError: if it is not there.
    """
    kind = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


class _Tags(HTMLParser):
    """Rewrites addresses in the tags of a piece of HTML and leaves the rest as it is, to the letter."""

    def __init__(self, html: str, rewritten: Callable[[str, str], str]) -> None:
        super().__init__(convert_charrefs=False)
        self._rewritten, self._html, self._done, self.result = rewritten, html, 0, ""
        self._lines = [0, *(match.end() for match in re.finditer("\n", html))]
        self.feed(html)
        self.close()
        self.result += html[self._done :]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        line, column = self.getpos()
        start, text = self._lines[line - 1] + column, self.get_starttag_text() or ""
        changed = {
            name: self._rewritten(_IN_HTML[name], value)
            for name, value in attrs
            if name in _IN_HTML and value and is_relative(value)
        }
        if not changed:
            return
        shown = [(name, changed.get(name, value)) for name, value in attrs]
        inside = "".join(f" {name}" if v is None else f' {name}="{escape(v)}"' for name, v in shown)
        self.result += self._html[self._done : start] + f"<{tag}{inside}{'/' * text.endswith('/>')}>"
        self._done = start + len(text)


def with_addresses(html: str, rewritten: Callable[[str, str], str]) -> str:
    """The HTML with each relative address replaced; tags without one stay as they are.

    Args:
        html: any piece; tags need not be closed in it.
        rewritten: the new address, of "link" or "picture" and the old one.
    """
    return _Tags(html, rewritten).result


class Addresses(SphinxTransform):
    """Rewrites every relative address of a page before Sphinx and MyST look for its target."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        for node in list(self.document.findall()):
            if isinstance(node, (pending_xref, download_reference)) and node.get("reftype") == "myst":
                self._link(node)
            elif isinstance(node, nodes.reference) and node.get("id_link"):
                self._heading(node)
            elif isinstance(node, nodes.reference) and is_relative(node.get("refuri", "")):
                node["refuri"] = self._new("link", node["refuri"])  # in Markdown that a cell displays
            elif isinstance(node, nodes.image) and is_relative(node["uri"]):
                if not Path(self.env.srcdir, node["uri"]).is_file():
                    node["uri"] = self._new("picture", node["uri"])
            elif isinstance(node, nodes.raw) and "html" in node.get("format", "").split():
                _set_text(node, with_addresses(node.astext(), self._new))

    def _link(self, node: pending_xref | download_reference) -> None:
        """MyST has taken the address apart if it names a page; another one it has kept whole."""
        target = node["reftarget"]
        if node.get("refdomain") == "doc":
            target = f"{quote(target)}.ipynb" + (
                f"#{node['reftargetid']}" if node["reftargetid"] else ""
            )
        new = self._new("link", target)
        link = nodes.reference("", "", *node.children, refuri=new, internal=not new.startswith(_GITHUB))
        if "reftitle" in node:
            link["reftitle"] = node["reftitle"]
        node.replace_self(link)

    def _new(self, kind: str, address: str) -> str:
        parts = urlsplit(address)
        if kind == "link":
            page = Path(os.path.normpath(unquote(parts.path)))
            if page.suffix == ".ipynb" and page.parent == Path() and page.stem in self.env.found_docs:
                anchor = f"#{self._anchor(page.stem, parts.fragment)}" if parts.fragment else ""
                return f"{quote(page.stem)}.html{anchor}"
            return in_repository(address, self.config.demos_repository)
        file = Path(self.config.demos_folder, unquote(parts.path))
        # Sphinx says of a picture in Markdown that it is missing; HTML is shown as it is.
        return as_data(file) if file.is_file() else address

    def _anchor(self, page: str, anchor: str) -> str:
        """Of another page: an id in its HTML as it is, or a heading's."""
        text = self.env.doc2path(page).read_text(encoding="utf-8").replace('\\"', '"')
        return anchor if anchor in html_anchors(text) else slug(unquote(anchor))

    def _heading(self, node: nodes.reference) -> None:
        """Let the anchor be as MyST writes it, GitHub's form, for which Jupyter's may stand too."""
        anchor = node["refuri"][1:]
        if anchor in self._html_anchors():
            node["id_link"] = False  # MyST would look among headings only
        else:
            node["refuri"] = f"#{slug(anchor)}"

    def _html_anchors(self) -> set[str]:
        raw = [node.astext() for node in self.document.findall(nodes.raw)]
        return {anchor for html in raw for anchor in html_anchors(html)}


class Leniency(SphinxTransform):
    """What docutils takes for an error and everything else shows."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        names = {name for note in self.document.findall(nodes.footnote) for name in note["names"]}
        for node in list(self.document.findall()):
            if isinstance(node, nodes.footnote_reference) and node.get("refname") not in names:
                node.parent.replace(node, nodes.Text(f"[^{node['refname']}]"))
            elif isinstance(node, nodes.transition):  # wherever it stands, also first or last
                node.parent.replace(node, nodes.raw("", "<hr/>", format="html"))


def _set_text(node: nodes.raw, text: str) -> None:
    node.rawsource = text
    node[:] = [nodes.Text(text)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("demos_repository", "", "env", str)
    app.add_config_value("demos_folder", "", "env", str)
    app.add_transform(Addresses)
    app.add_transform(Leniency)
    return {"parallel_read_safe": True}
