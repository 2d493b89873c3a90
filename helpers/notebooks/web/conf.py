"""Sphinx's settings for the web pages that `make site` writes (helpers/notebooks/site.py prepares them).

Nothing is executed and nothing comes from another server: outputs are the committed ones, the scripts
of Plotly and CircuitsVis lie beside the pages, formulas become MathML, which browsers draw themselves.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from helpers.notebooks import api

project = "Find a circuit"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "helpers.notebooks.api_links",
    "helpers.notebooks.formulas",
    "helpers.notebooks.site_links",
]
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "strikethrough", "tasklist"]
myst_heading_anchors = 6
smartquotes = False  # a token's quotes are not the typographer's
# What GitHub and JupyterLab show without a word is no reason to make no pages.
suppress_warnings = [
    "misc.highlighting_failure",  # code that is no code of its language is shown all the same
    "myst.directive_unknown",
    "myst.duplicate_def",
    "myst.header",  # a level of headings left out
    "myst.strikethrough",
    "mystnb.unknown_mime_type",
    "ref.footnote",
]

# The API reference: every name in a docstring must mean something.
nitpicky = True
default_role = "code"
add_module_names = False
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_numpy_docstring = False
# As parameters, whose types stand in the signature; several may share a line ("x, y: axis titles").
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_attr_annotations = False
python_maximum_signature_line_length = 90

html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["figures.css", "circuitsvis.css"]
html_domain_indices = False
html_sidebars: dict[str, list[str]] = {
    "**": [],
    **{name: ["sidebar-nav-bs"] for name in (api.NAME, *(page.name for page in api.PAGES))},
}
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button-field", "theme-switcher"],
    "navbar_end": [],
    "secondary_sidebar_items": {"index": [], "atlas": [], "**": ["page-toc"]},
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "footer_start": [],
    "footer_end": [],
    "show_prev_next": True,
}
copybutton_selector = ".cell_input div.highlight pre, .doctest pre"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
html_math_renderer = "mathml"


def _page_scripts(app: Sphinx, page: str, template: str, context: Any, doctree: nodes.document) -> None:
    """What one page needs and the others do not.

    Figures' scripts are a few megabytes, for demos only; not deferred, so that figures are drawn as the
    page is read.
    """
    if page == "atlas":
        app.add_js_file("atlas.js", loading_method="defer")
        app.add_css_file("atlas.css")
    elif doctree is not None and app.env.doc2path(page).suffix == ".ipynb":
        app.add_js_file("plotly.min.js")
        app.add_js_file("circuitsvis.js")


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _page_scripts)
