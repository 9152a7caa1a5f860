// What runs a Node.js function that is started by a program of its own: one whose start is wrapped
// (AWS_LAMBDA_EXEC_WRAPPER), or that has extensions beside it. See lang/provided.
//
// The same code as in the forkable runtime loads and calls the handler; only what is below it is another: the Runtime API
// in place of the channel.
'use strict';

const Module = require('node:module');

const native = require.resolve('./lichen.node');
require.cache[native] = Object.assign(new Module(native), { exports: require('./lichen_wire.cjs'), loaded: true });

const fn = require('./lichen_function.cjs');
const instance = require('./lichen_instance.cjs');
const logging = require('./lichen_logging.cjs');
const streaming = require('./lichen_stream.cjs');

const { env } = process;

async function run() {
  if (env.NODE_PATH === undefined) {
    env.NODE_PATH = fn.NODE_PATH;
    Module._initPaths();
  }
  logging.install();
  logging.configure(env.AWS_LAMBDA_LOG_FORMAT, env.AWS_LAMBDA_LOG_LEVEL);
  streaming.install();
  const settings = new fn.Settings({
    function_name: env.AWS_LAMBDA_FUNCTION_NAME,
    function_version: env.AWS_LAMBDA_FUNCTION_VERSION,
    handler: env._HANDLER,
    memory_mib: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    log_group: env.AWS_LAMBDA_LOG_GROUP_NAME,
    log_stream: env.AWS_LAMBDA_LOG_STREAM_NAME,
    // The API says where an answer is too long.
    response_max: Infinity,
  });
  instance.catchAll((error) => instance.failToLoad(error));
  let handler;
  try {
    handler = await fn.load(settings.handler);
  } catch (error) {
    instance.failToLoad(error);
    return;
  }
  instance.serve(handler, settings);
}

run();
