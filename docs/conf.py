"""How the site is built: `make docs`, without a network."""

from pygments.lexers.special import TextLexer

project = "statejobs"
copyright = "statejobs contributors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "statejobs"
exclude_patterns = ["_build"]
myst_heading_anchors = 3


def setup(app: object) -> None:
    """Show Mermaid as text; GitHub draws it."""
    app.add_lexer("mermaid", TextLexer)  # type: ignore[attr-defined]
