"""Servers that flows reach: one of pages, and a stand-in for S3 that verifies every signature. Ports are the kernel's.

The stand-in speaks TLS with a certificate of its own making, keeps objects in memory, and knows get, put and list. Its
verdict on signatures is botocore's.
"""

import datetime
import hashlib
import http.server
import ssl
import threading
import urllib.parse
from pathlib import Path
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY, SECRET, REGION = "AKIDFLOWS", "a secret that functions never see", "eu-central-1"


class Server:
    """An HTTP server on a thread of its own; `asked` is what it was asked: method and path."""

    def __init__(self, answer, tls=None):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                server.asked.append(f"{self.command} {self.path}")
                status, headers, content = answer(self, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except ConnectionError:
                    pass  # more than who has asked wants

            do_GET = do_PUT = do_POST = do

            def log_message(self, *_):
                pass

        self.asked = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def pages(asked, body):
    """`/to/URL` leads there, `/round` to itself, `/page/N` is a page, `/bytes` no text, `/long` more than is allowed."""
    path = urllib.parse.unquote(asked.path)
    if path.startswith("/to/"):
        return 302, {"Location": path[4:]}, b""
    if path == "/round":
        return 302, {"Location": "/round"}, b""
    if path.startswith("/page/"):
        return 200, {"Content-Type": "text/plain"}, f"page {path[6:]}\n".encode() * 3
    if path == "/bytes":
        return 200, {}, bytes(range(256))
    if path == "/long":
        return 200, {}, bytes(100_000)
    if path == "/echo":
        return 200, {"X-Method": asked.command}, body
    return 404, {}, b"there is no such page"


class Store:
    """The stand-in's objects, by bucket and key."""

    def __init__(self):
        self.objects = {}
        self.refused = []

    def __call__(self, asked, body):
        reason = unsigned(asked, body)
        if reason:
            self.refused.append(reason)
            return error(403, "SignatureDoesNotMatch", reason)
        url = urllib.parse.urlsplit(asked.path)
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        if asked.command == "PUT":
            self.objects[bucket, key] = body
            return 200, {}, b""
        if not key:
            return self.listed(bucket, dict(urllib.parse.parse_qsl(url.query)).get("prefix", ""))
        found = self.objects.get((bucket, key))
        return error(404, "NoSuchKey", "there is no such key") if found is None else (200, {}, found)

    def listed(self, bucket, prefix):
        keys = sorted(key for own, key in self.objects if own == bucket and key.startswith(prefix))
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        return 200, {"Content-Type": "application/xml"}, f"<ListBucketResult>{contents}</ListBucketResult>".encode()


def error(status, code, message):
    return status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def unsigned(asked, body):
    """What is wrong with a request's signature, if anything is."""
    said = asked.headers.get("authorization", "")
    algorithm, _, rest = said.partition(" ")
    fields = dict(field.strip().split("=", 1) for field in rest.split(",") if "=" in field)
    if algorithm != "AWS4-HMAC-SHA256" or set(fields) != {"Credential", "SignedHeaders", "Signature"}:
        return f"no signature: {said!r}"
    date = asked.headers["x-amz-date"]
    if fields["Credential"] != f"{KEY}/{date[:8]}/{REGION}/s3/aws4_request":
        return f"another scope: {fields['Credential']}"
    if asked.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
        return "another body"
    names = fields["SignedHeaders"].split(";")
    if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names):
        return f"headers that are not signed: {names}"
    request = AWSRequest(
        asked.command, f"https://{asked.headers['host']}{asked.path}", headers={name: asked.headers[name] for name in names}
    )
    request.context["timestamp"] = date
    judge = S3SigV4Auth(Credentials(KEY, SECRET), "s3", REGION)
    expected = judge.signature(judge.string_to_sign(request, judge.canonical_request(request)), request)
    return None if expected == fields["Signature"] else "another signature"


def certificate(folder):
    """A context with a certificate for `localhost` that signs itself, and the file that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = Path(folder) / "certificate.pem"
    secret = Path(folder) / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context, pem
