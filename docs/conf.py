"""How Sphinx builds the documentation: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from smartc.core.version import __version__

project = "smartc"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated_tables"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Typographic quotes and dashes would turn --data into something that cannot be typed.
smartquotes = False

html_theme = "furo"
html_title = "smartc"
html_show_copyright = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# The public objects are documented on one page; types of PyTorch, NumPy and Python have pages elsewhere.
nitpick_ignore_regex = [("py:.*", r".*")]
