import numpy
from PIL import Image


def handler(event, context):
    return [numpy.__name__, Image.__name__]
