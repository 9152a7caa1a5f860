"""The entries of a feed, RSS or Atom: an item for each, in the order in which they stand in it."""

import base64
import json
import xml.etree.ElementTree as Tree

ATOM = "{http://www.w3.org/2005/Atom}"
MOST = 10


def handler(event, context):
    [feed] = event["sets"]["feed"]
    text = feed["text"] if "text" in feed else base64.b64decode(feed["data"])
    root = Tree.fromstring(text)
    found = [*root.iter("item"), *root.iter(f"{ATOM}entry")][:MOST]
    source = root.findtext("channel/title") or root.findtext(f"{ATOM}title") or feed["name"]
    entries = [{"source": source, **entry(element)} for element in found]
    return {"sets": {"entries": [{"name": f"{feed['name']}-{place}", "json": one} for place, one in enumerate(entries)]}}


def entry(element):
    link = element.find(f"{ATOM}link")
    return {
        "title": " ".join((element.findtext("title") or element.findtext(f"{ATOM}title") or "?").split()),
        "link": element.findtext("link") or (link.get("href") if link is not None else ""),
    }
