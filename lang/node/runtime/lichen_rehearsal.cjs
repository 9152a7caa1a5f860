// What a first request would run first, run in the template: its children find code compiled and caches filled.
//
// It runs nothing of the function's.
'use strict';

const fs = require('node:fs');

const { answer } = require('./lichen_answer.cjs');
const logging = require('./lichen_logging.cjs');
const { Settings, load } = require('./lichen_function.cjs');

const RUNS = 24;
const EVENT = '{"key": "value", "numbers": [1, 2.5, true, null], "nested": {"text": "\\u00e9"}}';
const CONFIG = {
  function_name: 'rehearsal',
  function_version: '$LATEST',
  handler: 'rehearsal.handler',
  memory_mib: 128,
  log_group: '',
  log_stream: '',
};
const COMMON_JS = "'use strict';\nconst path = require('node:path');\nexports.handler = async (event) => path.basename('a');\n";
const ES_MODULE = "import path from 'node:path';\nexport const handler = async (event) => path.basename('a');\n";

/** Rehearses requests, and the loading of a function where children will do one. */
async function run(loads) {
  const settings = new Settings(CONFIG);
  const invocation = [EVENT, 0, 'request', 'arn', '', '', '', ''];
  for (let i = 0; i < RUNS; i += 1) {
    await new Promise((resolve) => {
      answer(handle, settings, invocation, () => {}, resolve);
    });
  }
  logging.setRequest(undefined);
  if (loads) await rehearseLoading();
}

async function handle(event, context) {
  context.getRemainingTimeInMillis();
  return { statusCode: 200, body: event };
}

async function rehearseLoading() {
  const folder = `/tmp/lichen-rehearsal-${process.pid}`;
  try {
    fs.mkdirSync(folder);
  } catch {
    return; // no writable /tmp: children load a little slower
  }
  try {
    for (let i = 0; i < RUNS; i += 1) {
      const [extension, text] = i % 8 === 0 ? ['mjs', ES_MODULE] : ['js', COMMON_JS];
      fs.writeFileSync(`${folder}/run${i}.${extension}`, text);
      await load(`${folder}/run${i}.handler`);
      delete require.cache[`${folder}/run${i}.js`];
    }
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

module.exports = { run };
