"""A stage of a chain over HTTP: the port of the next is in NEXT, if there is one. Connections are kept."""

import http.client
import json
import os
import time

from flask import Flask, request

from app import handler

app = Flask(__name__)
following = os.environ.get("NEXT")
connection = http.client.HTTPConnection("127.0.0.1", int(following)) if following else None


@app.post("/")
def stage():
    value = handler(request.get_json(), None)
    if connection:
        connection.request("POST", "/", json.dumps(value), {"Content-Type": "application/json"})
        value = json.loads(connection.getresponse().read())
        value["back"].append(time.monotonic_ns())
    return json.dumps(value), 200, {"Content-Type": "application/json"}
