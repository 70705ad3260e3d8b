"""How the site is built: `make docs`."""

project = "statejobs"
copyright = "statejobs contributors"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]
