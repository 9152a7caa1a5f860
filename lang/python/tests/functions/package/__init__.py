from .part import handler
