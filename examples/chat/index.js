"use strict";

const { setTimeout: later } = require("node:timers/promises");

const PAUSE_MS = 20;
const MIRRORED = { i: "you", me: "you", my: "your", am: "are", you: "I", your: "my", are: "am" };
/** What is answered to what, as Joseph Weizenbaum's ELIZA did it in 1966. */
const RULES = [
  [/\bi need (.*)/i, "Why do you need {0}?"],
  [/\bi(?:'m| am) (.*)/i, "How long have you been {0}?"],
  [/\bbecause (.*)/i, "Is that the real reason?"],
  [/\bmy (\w+)/i, "Tell me more about your {0}."],
  [/\?\s*$/, "Why do you ask that?"],
  [/.*/, "Please go on."],
];

const mirror = (text) => text.replace(/[.!?]+$/, "").split(/\s+/).map((word) => MIRRORED[word.toLowerCase()] ?? word).join(" ");

function reply(text) {
  const [pattern, answer] = RULES.find(([pattern]) => pattern.test(text));
  const [, said = ""] = pattern.exec(text);
  return answer.replace("{0}", mirror(said));
}

/** Answers a message word by word, as server-sent events: each goes out when it is written. */
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const body = event.isBase64Encoded ? Buffer.from(event.body, "base64").toString() : (event.body ?? "{}");
  const { message = "" } = JSON.parse(body);
  const headers = { "Content-Type": "text/event-stream", "Cache-Control": "no-store" };
  const answer = awslambda.HttpResponseStream.from(stream, { statusCode: 200, headers });
  for (const word of reply(message).split(" ")) {
    answer.write(`data: ${JSON.stringify({ word })}\n\n`);
    await later(PAUSE_MS);
  }
  answer.write("event: end\ndata: {}\n\n");
  answer.end();
});
