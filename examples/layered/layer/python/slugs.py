"""Names for addresses: what several functions share, as a layer."""

import re
import unicodedata

SEPARATOR = "-"


def slug(title, longest=60):
    """`Crème brûlée, à la maison` is `creme-brulee-a-la-maison`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    name = ""
    for word in words:
        longer = f"{name}{SEPARATOR}{word}" if name else word
        if len(longer) > longest:
            break
        name = longer
    return name
