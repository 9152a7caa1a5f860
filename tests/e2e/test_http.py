"""Connections, as clients other than AWS's treat them."""

import http.client
import os
import unittest
import urllib.parse

ADDRESS = urllib.parse.urlsplit(os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")).netloc
NOBODY = "/2015-03-31/functions/nobody/invocations"


class Bodies(unittest.TestCase):
    """Requests that are refused before their bodies are wanted."""

    def setUp(self):
        self.connection = http.client.HTTPConnection(ADDRESS, timeout=20)
        self.addCleanup(self.connection.close)

    def begin(self, length, **headers):
        self.connection.putrequest("POST", NOBODY)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()

    def end(self, status):
        answer = self.connection.getresponse()
        answer.read()
        self.assertEqual(answer.status, status)
        return answer

    def test_one_that_comes_later(self):
        self.connection.connect()
        socket = self.connection.sock
        for _ in range(20):
            self.begin(2)
            self.connection.send(b"{}")
            self.assertIsNone(self.end(404).headers["connection"])
        self.assertIs(self.connection.sock, socket)

    def test_one_that_is_long(self):
        self.begin(8 << 20)
        self.connection.send(bytes(8 << 20))
        self.end(404)
        self.connection.request("GET", "/healthz")
        self.end(200)

    def test_one_without_end(self):
        self.begin(1 << 40)
        self.assertEqual(self.end(404).headers["connection"], "close")

    def test_one_that_was_not_asked_for(self):
        self.begin(2, Expect="100-continue")
        self.assertEqual(self.end(404).headers["connection"], "close")


if __name__ == "__main__":
    unittest.main()
