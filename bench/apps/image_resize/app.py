"""Cuts a photo to a square and shrinks it (the work of ServerlessBench's and Molecule's image function)."""

import base64
import io

from PIL import Image, ImageOps, ImageStat

Image.preinit()


def handler(event, context):
    """Fits the JPEG in `image` (base64) to `size` x `size`. Answers with the new JPEG and its mean colour."""
    with Image.open(io.BytesIO(base64.b64decode(event["image"]))) as image:
        before = image.size
        small = ImageOps.fit(image.convert("RGB"), (event["size"], event["size"]))
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=85)
    return {
        "from": before,
        "to": small.size,
        "mean": [round(channel) for channel in ImageStat.Stat(small).mean],
        "image": base64.b64encode(jpeg.getvalue()).decode(),
    }
