"""Sphinx: built by `make docs` into docs/_build/html."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pcsim"
author = "the pcsim authors"
release = installed("pcsim")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "myst_nb", "docstrings", "generated"]
exclude_patterns = ["_build", "_ext", "results/*", "make_reference.py", "conf.py", "notebooks/runs"]
html_theme = "furo"
html_title = "pcsim"
html_static_path = ["_static"]
html_css_files = ["pcsim.css"]
html_show_copyright = False
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": False}
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
# an annotation that names a class which two modules have: the page shows the name, the link would be a guess
suppress_warnings = ["ref.python"]
