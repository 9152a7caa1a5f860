"""The applications of examples/, each on a node, with its own input: what people deploy, in the shapes in which they do."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
from collections import Counter
from pathlib import Path

import boto3
import shop
from botocore.config import Config
from cloud import ACCOUNT, REGION, Cloud, node
from harness import REPOSITORY, Node, eventually, lichen, package
from test_schedules import events as schedules

EXAMPLES = REPOSITORY / "examples"
ROLE = "arn:aws:iam::000000000000:role/app"


def lines(path):
    return [line for line in (EXAMPLES / path).read_text().splitlines() if line]


class App(unittest.TestCase):
    """A node, and services beside it where a test wants some."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cloud = cls.enterClassContext(Cloud())
        cls.node = node(cls, cls.cloud)
        cls.api = cls.node.client()

    def deploy(self, example, name=None, api=None, **settings):
        """A function of an example's folder."""
        name, folder, api = name or f"{Path(example).name}-{uuid.uuid4().hex[:8]}", EXAMPLES / example, api or self.api
        is_node = (folder / "index.js").exists()
        usual = {
            "Runtime": "nodejs20.x" if is_node else "python3.11", "Role": ROLE, "Timeout": 30, "MemorySize": 256,
            "Handler": "index.handler" if is_node else "app.handler",
        }
        api.create_function(FunctionName=name, Code={"ZipFile": package(folder)}, **{**usual, **settings})
        api.get_waiter("function_active_v2").wait(FunctionName=name)
        return name

    def arn(self, name):
        return self.api.get_function_configuration(FunctionName=name)["FunctionArn"]

    def told(self, name, own=None):
        """The JSON lines that a function has printed."""
        path = f"{(own or self.node).endpoint}/v1/functions/{name}/logs?last=100000"
        with urllib.request.urlopen(path, timeout=30) as reply:
            # Node puts the time, the request's id and the level before what is logged.
            messages = [json.loads(line)["message"].split("\t")[-1] for line in reply]
        return [json.loads(message) for message in messages if message.startswith("{")]

    def map(self, source, name, api=None, **settings):
        api = api or self.api
        made = api.create_event_source_mapping(EventSourceArn=source, FunctionName=name, **settings)["UUID"]
        self.addCleanup(api.delete_event_source_mapping, UUID=made)
        eventually(lambda: api.get_event_source_mapping(UUID=made)["State"] == "Enabled", "the mapping is enabled")

    def ask(self, url, data=None, headers=(), method=None):
        """A request that follows no redirect: status, headers, text."""
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)
        try:
            reply = urllib.request.build_opener(Stay).open(request, timeout=30)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            return reply.status, reply.headers, reply.read().decode()


class Web(App):
    def test_site(self):
        """A web back end behind a function URL."""
        name = self.deploy("site")
        url = self.api.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
        site = f"{self.node.endpoint}/_aws/lambda-url/{url.split('//')[1].split('.')[0]}"
        status, headers, text = self.ask(f"{site}/")
        self.assertEqual((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("You have sent 0 text(s).", text)
        form = urllib.parse.urlencode({"text": "Ein Töpfchen & ein Topf"}).encode()
        status, headers, _ = self.ask(f"{site}/texts", form)
        self.assertEqual((status, headers["location"]), (303, "/"))
        cookies = "; ".join(cookie.split(";")[0] for cookie in headers.get_all("set-cookie"))
        _, _, text = self.ask(f"{site}/", headers={"Cookie": cookies})
        self.assertIn("You have sent 1 text(s).", text)
        self.assertIn("Ein Töpfchen &amp; ein Topf</textarea>", text)
        body = (EXAMPLES / "site/text.json").read_bytes()
        status, headers, text = self.ask(f"{site}/api/statistics", body, {"Content-Type": "application/json"})
        self.assertEqual((status, headers["content-type"]), (200, "application/json"))
        found = json.loads(text)
        self.assertEqual((found["words"], found["lines"], found["frequent"][0]), (12, 2, ["the", 3]))
        self.assertEqual(self.ask(f"{site}/api/statistics", b"nonsense")[0], 400)
        status, headers, _ = self.ask(f"{site}/texts")
        self.assertEqual((status, headers["allow"], self.ask(f"{site}/none")[0]), (405, "POST", 404))

    def test_chat(self):
        """A chat that streams."""
        name = self.deploy("chat")
        url = self.api.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
        chat = f"{self.node.endpoint}/_aws/lambda-url/{url['FunctionUrl'].split('//')[1].split('.')[0]}/"
        for _ in range(2):
            # The second time nothing has to be started, so that what is measured is the stream.
            request = urllib.request.Request(chat, (EXAMPLES / "chat/message.json").read_bytes())
            began, words, moments = time.monotonic(), [], []
            with urllib.request.urlopen(request, timeout=30) as reply:
                self.assertEqual(reply.headers["content-type"], "text/event-stream")
                for line in reply:
                    if line.startswith(b"data: ") and b"word" in line:
                        words.append(json.loads(line[6:])["word"])
                        moments.append(time.monotonic() - began)
        self.assertEqual(" ".join(words), "How long have you been unhappy with your computer?")
        # Eight pauses of 20 ms lie between the first word and the last: they came one by one.
        self.assertGreater(moments[-1] - moments[0], 0.1)


class Sources(App):
    def test_orders(self):
        """A queue's worker with partial batches."""
        sqs = self.cloud.client("sqs")
        dead, dead_arn = self.cloud.queue()
        redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
        url, arn = self.cloud.queue(VisibilityTimeout="1", RedrivePolicy=redrive)
        name = self.deploy("orders", Timeout=1)
        orders = lines("orders/orders.jsonl")
        for order in orders:
            sqs.send_message(QueueUrl=url, MessageBody=order)
        self.map(arn, name, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"])
        given_up = []
        eventually(lambda: given_up.extend(self.cloud.received(dead)) or len(given_up) >= 2, "two orders are given up")
        self.assertEqual({message["Body"] for message in given_up}, {orders[2], orders[4]})
        totals = {line["order"]: line["total"] for line in self.told(name) if "order" in line}
        self.assertEqual(totals, {1: "4.20", 2: "15.90", 4: "7.20"})
        served = Counter(line["order"] for line in self.told(name) if "order" in line)
        self.assertEqual(set(served.values()), {1}, "an order that was served does not come again")

    def test_sensors(self):
        """A stream's processor."""
        kinesis, stream = self.cloud.client("kinesis"), f"readings-{uuid.uuid4().hex[:8]}"
        kinesis.create_stream(StreamName=stream, ShardCount=1)
        kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1})
        readings = [line.split(",") for line in lines("sensors/readings.csv")]
        for sensor, value in readings:
            kinesis.put_record(StreamName=stream, PartitionKey=sensor, Data=value.encode())
        name = self.deploy("sensors")
        arn = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"
        self.map(arn, name, StartingPosition="TRIM_HORIZON", BatchSize=100, MaximumBatchingWindowInSeconds=1)

        def counted():
            summaries = [line for line in self.told(name) if "sensor" in line]
            return sum(line["count"] for line in summaries) >= len(readings) and summaries

        summaries = eventually(counted, "all readings are processed")
        last = {line["sensor"]: line["last"] for line in summaries}
        self.assertEqual(last, {"boiler": 78.4, "cellar": 11.8}, "in the order of each sensor")
        alarms = [(line["alarm"], line["value"]) for line in self.told(name) if "alarm" in line]
        self.assertEqual(alarms, [("boiler", 83.9)])

    def test_report(self):
        """A cron job."""
        name, rule, api = self.deploy("report"), f"minutes-{uuid.uuid4().hex[:8]}", schedules(self.node)
        answer = json.load(self.api.invoke(FunctionName=name, Payload='{"time": "2026-12-01T07:00:00Z"}')["Payload"])
        names = [row["name"] for row in answer["due"]]
        self.assertEqual(names, ["old.example.com", "www.example.com"])
        arn = api.put_rule(Name=rule, ScheduleExpression="cron(* * * * ? *)")["RuleArn"]
        api.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": self.arn(name)}])
        fired = eventually(lambda: [line for line in self.told(name) if line.get("rule") == arn], "the minute is over", 90)
        api.remove_targets(Rule=rule, Ids=["1"])
        api.delete_rule(Name=rule)
        self.assertRegex(fired[0]["report"], r":00Z$")
        self.assertEqual(fired[0]["checked"], 3)

    def test_fanout(self):
        """Asynchronous work with destinations."""
        mark = uuid.uuid4().hex[:8]
        names = {word: self.deploy("fanout", f"{word}-{mark}", Handler=f"app.{word}") for word in ("sign_up", "welcome", "apologise")}
        self.api.put_function_event_invoke_config(
            FunctionName=names["sign_up"], MaximumRetryAttempts=1,
            DestinationConfig={
                "OnSuccess": {"Destination": self.arn(names["welcome"])},
                "OnFailure": {"Destination": self.arn(names["apologise"])},
            },
        )
        for event in lines("fanout/events.jsonl"):
            self.api.invoke(FunctionName=names["sign_up"], InvocationType="Event", Payload=event)
        welcomed = eventually(lambda: len(told := self.told(names["welcome"])) >= 2 and told, "both are welcomed")
        self.assertEqual({line["welcome"] for line in welcomed}, {"ada@example.com", "grace@example.com"})
        sorry = eventually(lambda: self.told(names["apologise"]), "one is apologised to")
        self.assertEqual(sorry, [{"sorry": "Nobody", "because": "no address: 'nowhere'", "attempts": 2}])


class Code(App):
    def test_layered(self):
        """A library in a layer."""
        layer = f"slugs-{uuid.uuid4().hex[:8]}"
        content = {"ZipFile": package(EXAMPLES / "layered/layer")}
        arn = self.api.publish_layer_version(LayerName=layer, Content=content)["LayerVersionArn"]
        name = self.deploy("layered/function", Layers=[arn])
        event = (EXAMPLES / "layered/event.json").read_bytes()
        answer = json.load(self.api.invoke(FunctionName=name, Payload=event)["Payload"])
        expected = ["creme-brulee-a-la-maison", "hello-world", "hello-world-2", "uber-lichen"]
        self.assertEqual(answer, {"addresses": [f"/articles/{slug}" for slug in expected]})

    def test_words(self):
        """A runtime of one's own, in Rust."""
        cargo = shutil.which("cargo")
        if not cargo:
            self.skipTest("cargo is not there to build examples/words")
        target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "words"
        build = [cargo, "build", "--quiet", "--locked", "--target-dir", target]
        subprocess.run(build, cwd=EXAMPLES / "words", check=True, timeout=600)
        bytes_ = io.BytesIO()
        with zipfile.ZipFile(bytes_, "w", zipfile.ZIP_DEFLATED) as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, (target / "debug/bootstrap").read_bytes(), zipfile.ZIP_DEFLATED)
        name = f"words-{uuid.uuid4().hex[:8]}"
        self.api.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=ROLE, Code={"ZipFile": bytes_.getvalue()},
            Timeout=30, MemorySize=256,
        )
        answer = json.load(self.api.invoke(FunctionName=name, Payload=(EXAMPLES / "words/event.json").read_bytes())["Payload"])
        self.assertEqual((answer["words"], answer["longest"]), (6, "not"))

    def test_canary(self):
        """A release by weights, taken back where it fails."""
        name = self.deploy("canary", Publish=True)
        self.api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")

        def release(word):
            self.api.update_function_configuration(FunctionName=name, Environment={"Variables": {"RELEASE": word}})
            return self.api.publish_version(FunctionName=name)["Version"]

        def roll(version):
            script, events = EXAMPLES / "canary/canary.py", EXAMPLES / "canary/events.jsonl"
            environment = {
                **os.environ, "AWS_ENDPOINT_URL": self.node.endpoint, "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
            }
            line = [sys.executable, script, name, "live", version, events]
            return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)

        done = roll(release("broken"))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1]), {"taken back to": "1"})
        alias = self.api.get_alias(FunctionName=name, Name="live")
        self.assertEqual((alias["FunctionVersion"], "RoutingConfig" in alias), ("1", False))
        good = release("good")
        done = roll(good)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.api.get_alias(FunctionName=name, Name="live")["FunctionVersion"], good)


class Storage(unittest.TestCase):
    """S3 and SQS on a machine of their own: a network namespace beside this one."""

    def setUp(self):
        if os.geteuid() != 0 or not shutil.which("ip"):
            self.skipTest("another machine is made of a network namespace, for which one has to be root and to have `ip`")
        number = os.getpid() % 200 + 20
        self.space, self.near, self.far = f"lichen-app-{os.getpid()}", f"10.213.{number}.1", f"10.213.{number}.2"
        link = f"la{os.getpid()}"
        self.addCleanup(self.ip, "netns", "delete", self.space, check=False)
        self.ip("netns", "add", self.space)
        self.ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        self.addCleanup(self.ip, "link", "delete", link, check=False)
        self.ip("address", "add", f"{self.near}/24", "dev", link)
        self.ip("link", "set", link, "up")
        for line in (f"address add {self.far}/24 dev eth0", "link set eth0 up", "link set lo up", f"route add default via {self.near}"):
            self.ip("-n", self.space, *line.split())
        serve = ["ip", "netns", "exec", self.space, sys.executable, "-m", "moto.server", "-H", self.far, "-p", "5000"]
        server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        self.endpoint = f"http://{self.far}:5000"
        eventually(self.answers, "the storage answers")

    def ip(self, *words, check=True):
        subprocess.run(["ip", *words], check=check, capture_output=True)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=5).status == 200
        except OSError:
            return False

    def client(self, service):
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test",
            config=Config(s3={"addressing_style": "path"}),
        )

    def test_pictures(self):
        """An image pipeline on S3's events."""
        from PIL import Image

        self.cloud = type("Elsewhere", (), {"endpoint": self.endpoint})
        own = node(self, self.cloud, '[functions]\nnetwork = "egress"')
        api, s3, sqs = own.client(), self.client("s3"), self.client("sqs")
        queue = sqs.create_queue(QueueName="pictures")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        s3.create_bucket(Bucket="album")
        told = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket="album", NotificationConfiguration=told)
        variables = [f"STORAGE={self.endpoint}", "STORAGE_KEY=test", "STORAGE_SECRET=test"]
        name = "pictures"
        # It brings packages, which this installs.
        settings = ["--memory", 512, "--timeout", 30, *(word for pair in variables for word in ("--env", pair))]
        deployed = lichen("deploy", EXAMPLES / name, "--name", name, *settings, endpoint=own.endpoint)
        self.assertEqual(deployed.returncode, 0, deployed.stderr)
        App.map(self, arn, name, api=api)
        photo = (EXAMPLES / "thumbnail/photo.jpg").read_bytes()
        s3.put_object(Bucket="album", Key="holiday in May.jpg", Body=photo)

        def small():
            found = s3.list_objects_v2(Bucket="album", Prefix="small/").get("Contents", [])
            return found and s3.get_object(Bucket="album", Key=found[0]["Key"])

        made = eventually(small, "the small picture is there")
        self.assertEqual(made["Metadata"], {"width": "600", "height": "400"})
        with Image.open(io.BytesIO(made["Body"].read())) as picture:
            self.assertEqual((picture.format, picture.size), ("JPEG", (160, 107)))
        told = eventually(lambda: App.told(self, name, own), "it has told of the picture")
        self.assertEqual((told[0]["picture"], told[0]["bytes"]["before"]), ("holiday in May.jpg", len(photo)))


class Neighbours(App):
    """Functions that hand on and talk through memory."""

    def test_voice(self):
        stages = ["frontend", "intent", "home", "door", "light"]
        for stage in stages:
            self.deploy("voice", stage, Handler=f"index.{stage}")
        run = lichen("flow", "deploy", "voice", "--chain", ",".join(stages), endpoint=self.node.endpoint)
        self.assertEqual(run.returncode, 0, run.stderr)
        event = f"@{EXAMPLES / 'voice' / 'event.json'}"
        for _ in range(3):
            run = lichen("flow", "invoke", "voice", "-d", event, endpoint=self.node.endpoint)
            answer = json.loads(run.stdout)
            self.assertEqual(answer["home"]["door"]["front"], {"open": True, "locked": False})
            self.assertEqual(answer["home"]["light"]["living room"], {"on": True, "level": 40})
            self.assertIn("The living room light is on at 40 percent.", answer["say"])
        run = lichen("flow", "invoke", "voice", "-d", '{"text": ""}', endpoint=self.node.endpoint)
        self.assertEqual((run.returncode, json.loads(run.stdout)["stage"]), (1, 1))

    def test_mapreduce(self):
        for name in ("map", "reduce"):
            self.deploy("mapreduce", name, Handler=f"app.{name}")
        files = sorted((REPOSITORY / "docs").glob("*.md"))
        text = "\n".join(file.read_text() for file in files)
        plain = Counter(re.findall(r"[a-z]+", text.lower()))
        top = sorted(plain.items(), key=lambda entry: (-entry[1], entry[0]))[:10]
        for mappers in (1, 4, 8):
            command = [sys.executable, EXAMPLES / "mapreduce/count.py", str(mappers), *files]
            environment = {**os.environ, "LICHEN_ENDPOINT": self.node.endpoint}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            answer = json.loads(done.stdout)
            self.assertEqual((answer["words"], answer["distinct"]), (plain.total(), len(plain)))
            self.assertEqual(answer["top"], [list(entry) for entry in top])
            self.assertEqual((len(answer["by_mapper"]), sum(answer["by_mapper"])), (mappers, plain.total()))


class Flows(unittest.TestCase):
    """Functions of several kinds as one, and what the platform fetches for them."""

    @classmethod
    def setUpClass(cls):
        folder = EXAMPLES / "digest/feeds"
        serve = lambda asked, _: (200, {}, (folder / asked.path[1:]).read_bytes()) if (folder / asked.path[1:]).is_file() else (404, {}, b"no")  # noqa: E731
        cls.feeds = cls.enterClassContext(shop.Server(serve))
        config = Path(cls.enterClassContext(tempfile.TemporaryDirectory())) / "lichen.toml"
        config.write_text(f'[fetch]\nallow = ["127.0.0.1:{cls.feeds.port}"]\n')
        cls.node = cls.enterClassContext(Node("--config", config))

    def done(self, *words):
        run = lichen(*words, endpoint=self.node.endpoint)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def test_wordcount(self):
        for name in ("split", "count", "sum"):
            program = REPOSITORY / f".build/guest/{name}.wasm"
            if not program.exists():
                self.skipTest(f"{program.name} is not there: `make guest` makes it where clang and lld are")
            self.done("deploy", program, "--name", name)
        self.done("flow", "deploy", EXAMPLES / "wordcount/wordcount.flow")
        sets = json.loads(self.done("flow", "invoke", "wordcount", "--set", f"Texts=@{REPOSITORY / 'docs'}"))["sets"]
        lines = [line.rsplit(" ", 1) for item in sets["Totals"] for line in item["text"].splitlines()]
        found = {word: int(number) for word, number in lines}
        self.assertEqual((len(found), len(sets["Totals"])), (len(lines), 8))
        texts = [path.read_text() for path in (REPOSITORY / "docs").rglob("*") if path.is_file()]
        plain = Counter(word for text in texts for word in re.findall(r"(?:[a-zA-Z0-9]|[^\x00-\x7f])+", text))
        small = Counter()
        for word, number in plain.items():
            small["".join(character.lower() if character.isascii() else character for character in word)] += number
        self.assertEqual(found, small)

    def test_digest(self):
        self.done("deploy", EXAMPLES / "digest/titles.py", "--name", "titles")
        self.done("deploy", EXAMPLES / "digest/page.js", "--name", "page")
        self.done("flow", "deploy", EXAMPLES / "digest/digest.flow")
        feeds = [f"http://127.0.0.1:{self.feeds.port}/{name}" for name in ("garden.xml", "notes.atom")]
        names = [word for url in [*feeds, "http://10.0.0.1/"] for word in ("--set", f"Feeds={url}")]
        page = self.done("flow", "invoke", "digest", *names)
        self.assertEqual(re.findall("<h2>(.*)</h2>", page), ["The Garden", "Notes on lichens"])
        self.assertEqual(re.findall('href="(.*?)"', page), ["https://garden.example/moss", "https://notes.example/1"])
        self.assertIn("Moss &#38; stone", page)
        self.assertIn("<p>Feed 2: ", page)


if __name__ == "__main__":
    unittest.main()
