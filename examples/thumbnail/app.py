"""Makes a small JPEG of a photo."""

import base64
import io
from pathlib import Path

from PIL import Image, ImageOps

PHOTO = Path(__file__).with_name("photo.jpg")

# What runs here runs once per function, in its template; every instance is forked from after it.
Image.preinit()


def handler(event, context):
    """Fits `event["image"]` (base64), or else the photo beside this file, into `width` x `height` pixels."""
    source = io.BytesIO(base64.b64decode(event["image"])) if "image" in event else PHOTO
    with Image.open(source) as image:
        small = ImageOps.exif_transpose(image).convert("RGB")
        before = small.size
        small.thumbnail((event.get("width", 160), event.get("height", 160)))

    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=85)
    return {
        "from": {"width": before[0], "height": before[1]},
        "to": {"width": small.width, "height": small.height, "bytes": jpeg.tell()},
        "image": base64.b64encode(jpeg.getvalue()).decode(),
    }
