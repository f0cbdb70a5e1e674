"""What the site says about itself to machines: addresses, cards, titles, the sitemap.

All of it follows from two values of ``_config.yml``, the title and the address.
"""

from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
BRAND = Path(__file__).parent / "brand"


def _configure(app: Any, config: Any) -> None:
    """Give every extension the book's title and address."""
    config.templates_path.append(str(TEMPLATES))
    config.project = config.html_title
    # The theme means to have no bar on top, but its empty text counts as the default.
    config.html_theme_options["navbar_persistent"] = []
    config.html_favicon = str(BRAND / "mark.svg")
    config.ogp_site_name = config.html_title
    config.ogp_site_url = config.html_baseurl
    # What other sites show beside a link: Sphinx's own logo, unless there is another.
    pictures = {"image": "mark.png", "image_mini": "blank.png"}
    pictures = {name: str(BRAND / file) for name, file in pictures.items()}
    config.ogp_social_cards = {**pictures, "line_color": "#D55E00"}


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.connect("config-inited", _configure)
