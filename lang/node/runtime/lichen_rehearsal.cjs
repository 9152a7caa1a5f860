// What a child will do first, done in the template: children find code compiled and caches filled, and what is not
// written again stays shared between them.
//
//   stage: a channel of the template's own ─► begin, as a child does ─► invocations by the bell ─► unstage
//
// It runs nothing of the function's.
'use strict';

const fs = require('node:fs');
const v8 = require('node:v8');

const native = require('./lichen.node');
const instance = require('./lichen_instance.cjs');
const logging = require('./lichen_logging.cjs');

const STARTS = 30;
const INVOCATIONS = 40;
// Which of the starts load a module of the other kind.
const EVERY = 6;
const EVENT = '{"key": "value", "numbers": [1, 2.5, true, null], "nested": {"text": "\\u00e9"}}';
const CONFIG = {
  function_name: 'rehearsal',
  function_version: '$LATEST',
  function_arn: 'arn',
  memory_mib: 128,
  timeout_s: 3,
  region: 'us-east-1',
  log_group: '/aws/lambda/rehearsal',
  log_stream: '2000/01/01/[$LATEST]0',
  initialization_type: 'on-demand',
  runtime: 'nodejs',
  environment: { KEY: 'value' },
};
const COMMON_JS = "'use strict';\nconst path = require('node:path');\nexports.handler = async (event) => path.basename('a');\n";
const ES_MODULE = "import path from 'node:path';\nexport const handler = async (event) => path.basename('a');\n";

/** Rehearses starts: of `settings`' function, with another handler, or of functions that are loaded first. */
async function run(begin, settings) {
  // Code that was compiled for a rehearsal is not to be thrown away before it is used.
  v8.setFlagsFromString('--no-flush-bytecode');
  if (settings === null) {
    await written(Array(STARTS).keys(), (config) => perform(() => begin(config, null, null), INVOCATIONS));
  } else {
    for (let i = 0; i < STARTS; i += 1) await perform(() => begin(again(settings, i), settings, handle), INVOCATIONS);
  }
  logging.setRequest(undefined);
}

/** The same once, in a child that waits for its function: what it writes to is its own from then on. */
async function ahead(begin) {
  await written([1], (config) => perform(() => begin(config, null, null), 1));
  logging.setRequest(undefined);
}

/** With functions of these numbers, which are nowhere else. */
async function written(numbers, use) {
  const folder = fs.mkdtempSync('/tmp/lichen-rehearsal-');
  try {
    for (const i of numbers) await use(write(folder, i));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** One start, and some invocations. */
async function perform(start, invocations) {
  native.stage();
  native.cue(EVENT);
  start();
  for (let i = 1; i < invocations; i += 1) {
    await answered();
    native.cue(EVENT);
  }
  await answered();
  native.unstage();
  instance.forget();
}

async function answered() {
  while (!native.heard()) await new Promise(setImmediate);
}

async function handle(event, context) {
  context.getRemainingTimeInMillis();
  return { statusCode: 200, body: event };
}

/** A function that is nowhere else: its configuration. */
function write(folder, i) {
  const [extension, text] = i % EVERY === 0 ? ['mjs', ES_MODULE] : ['js', COMMON_JS];
  const file = `${folder}/run${i}`;
  fs.writeFileSync(`${file}.${extension}`, text);
  return JSON.stringify({ ...CONFIG, handler: `${file}.handler` });
}

/** What a child of a dedicated template is told: something, or nothing. */
function again(settings, i) {
  return i % 2 === 0 ? '' : JSON.stringify({ log_stream: settings.logStream });
}

module.exports = { run, ahead };
