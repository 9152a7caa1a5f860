import time

from PIL import Image


def handler(event, context):
    """Shrinks a picture, then holds its instance until the clock says `until`, so that others need one of their own."""
    small = Image.linear_gradient("L").convert("RGB").resize((64, 64))
    time.sleep(max(0, event["until"] - time.monotonic()))
    return {"size": small.size}
