// What a plain Node.js start does with a function: load it, and for each line that it reads call it and print the answer.
//
//     node runner.cjs index.handler < event.json      (in the function's folder)
//
// Prints when the handler began (CLOCK_MONOTONIC, nanoseconds) on standard error, and ends with its standard input.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const [file, name] = process.argv[2].split(".");
const handler = require(path.resolve(file))[name];

const chunk = Buffer.alloc(65536);
let rest = Buffer.alloc(0);

// The next line, read without the event loop: the quickest way there is.
function nextLine() {
  for (;;) {
    const end = rest.indexOf(10);
    if (end >= 0) {
      const line = rest.toString("utf8", 0, end);
      rest = rest.subarray(end + 1);
      return line;
    }
    const length = fs.readSync(0, chunk);
    if (length === 0) return null;
    rest = Buffer.concat([rest, chunk.subarray(0, length)]);
  }
}

(async () => {
  for (let line = nextLine(); line !== null; line = nextLine()) {
    const event = JSON.parse(line);
    const begun = process.hrtime.bigint();
    const answer = await handler(event, null);
    fs.writeSync(2, `${begun}\n`);
    fs.writeSync(1, `${JSON.stringify(answer)}\n`);
  }
})();
