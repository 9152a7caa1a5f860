// Says when it writes its first byte, waits, and then writes as many MiB as it is asked for.
const MIB = Buffer.alloc(1 << 20, "x");

exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.write(`${process.hrtime.bigint()}\n`);
  await new Promise((resolve) => setTimeout(resolve, 20));
  for (let left = Number(event.queryStringParameters.mib); left > 0; left -= 1) {
    if (!stream.write(MIB)) await new Promise((resolve) => stream.once("drain", resolve));
  }
  stream.end();
});
