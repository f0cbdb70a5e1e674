"""What the site says about itself to machines: addresses, cards, titles, the sitemap.

All of it follows from two values of ``_config.yml``, the title and the address.
"""

from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
BRAND = Path(__file__).parent / "brand"

CARD = {
    "image": str(BRAND / "mark.png"),
    # Sphinx's own logo, unless there is another.
    "image_mini": str(BRAND / "blank.png"),
    "line_color": "#D55E00",
}
"""How the picture looks that other sites show beside a link."""


def _configure(app: Any, config: Any) -> None:
    """Give every extension the book's title and address."""
    config.templates_path.append(str(TEMPLATES))
    config.project = config.html_title
    # The theme means to have no bar on top, but its empty text counts as the default.
    config.html_theme_options["navbar_persistent"] = []
    config.html_favicon = str(BRAND / "mark.svg")
    config.ogp_site_name = config.html_title
    config.ogp_site_url = config.html_baseurl
    config.ogp_social_cards = CARD
    # One language, one version: a page's address has neither.
    config.sitemap_url_scheme = "{link}"
    config.sitemap_excludes = ["search.html", "genindex.html", "py-modindex.html"]


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.connect("config-inited", _configure)
