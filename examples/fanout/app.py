"""Signing up: the work is done behind the caller's back, and who has to know of its end is told by destinations."""

import json
import re

ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def sign_up(event, context):
    """Called asynchronously. What it returns goes to the destination for success, what it raises to the one for failure."""
    if not ADDRESS.fullmatch(event.get("mail", "")):
        raise ValueError(f"no address: {event.get('mail')!r}")
    return {"name": event["name"], "mail": event["mail"], "greeting": f"Welcome, {event['name']}!"}


def welcome(event, context):
    """The destination for success: AWS's record of the invocation, with what the function returned."""
    print(json.dumps({"welcome": event["responsePayload"]["mail"], "text": event["responsePayload"]["greeting"]}))


def apologise(event, context):
    """The destination for failure, after the last attempt: with the error, and what was asked."""
    error, attempts = event["responsePayload"]["errorMessage"], event["requestContext"]["approximateInvokeCount"]
    print(json.dumps({"sorry": event["requestPayload"]["name"], "because": error, "attempts": attempts}))
