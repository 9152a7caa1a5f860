"""A web back end in one function: a page with a form, an API, cookies, redirects. It is called by its URL."""

import base64
import html
import json
import re
import urllib.parse
from collections import Counter

PAGE = """<!doctype html><title>Text statistics</title>
<h1>Text statistics</h1><p>You have sent {visits} text(s).</p>
<form method="post" action="/texts"><textarea name="text" rows="8" cols="60">{text}</textarea><br><button>Count</button></form>
{result}"""
MOST = 5


def statistics(text):
    words = re.findall(r"[^\W\d_]+", text.lower())
    return {
        "characters": len(text), "words": len(words), "lines": len(text.splitlines()),
        "frequent": Counter(words).most_common(MOST),
    }


def answer(status, body="", kind="text/plain; charset=utf-8", **more):
    return {"statusCode": status, "headers": {"Content-Type": kind, **more.pop("headers", {})}, "body": body, **more}


def page(request):
    """The form, and what the last text came to: it travels in a cookie from the redirect to here."""
    cookies = dict(cookie.split("=", 1) for cookie in request.get("cookies", []))
    text = urllib.parse.unquote(cookies.get("text", ""))
    result = f"<pre>{html.escape(json.dumps(statistics(text), indent=2))}</pre>" if text else ""
    content = PAGE.format(visits=int(cookies.get("visits", "0")), text=html.escape(text), result=result)
    return answer(200, content, "text/html; charset=utf-8", cookies=["text=; Max-Age=0; Path=/"])


def submit(request):
    """A form that was sent: redirected, so that reloading sends nothing again."""
    form = urllib.parse.parse_qs(body(request))
    cookies = dict(cookie.split("=", 1) for cookie in request.get("cookies", []))
    visits = int(cookies.get("visits", "0")) + 1
    text = urllib.parse.quote(form.get("text", [""])[0][:1000])
    return answer(303, headers={"Location": "/"}, cookies=[f"text={text}; Path=/", f"visits={visits}; Path=/"])


def api(request):
    try:
        text = json.loads(body(request))["text"]
    except (ValueError, KeyError, TypeError):
        return answer(400, json.dumps({"error": 'send {"text": "…"}'}), "application/json")
    return answer(200, json.dumps(statistics(str(text))), "application/json")


def body(request):
    text = request.get("body", "")
    return base64.b64decode(text).decode() if request.get("isBase64Encoded") else text


ROUTES = {"/": {"GET": page}, "/texts": {"POST": submit}, "/api/statistics": {"POST": api}}


def handler(event, context):
    methods = ROUTES.get(event["rawPath"])
    if methods is None:
        return answer(404, "There is nothing here.")
    act = methods.get(event["requestContext"]["http"]["method"])
    return act(event) if act else answer(405, headers={"Allow": ", ".join(methods)})
