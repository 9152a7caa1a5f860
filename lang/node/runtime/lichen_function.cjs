// A function's place (environment, folder, modules' paths) and its handler.
'use strict';

const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

const native = require('./lichen.node');
const { Fault } = require('./lichen_errors.cjs');
const logging = require('./lichen_logging.cjs');

const TASK_ROOT = '/var/task';
const MAJOR = process.versions.node.split('.', 1)[0];
const NODE_PATH = `/opt/nodejs/node${MAJOR}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime/node/modules`;
const RESPONSE_MAX = 6 * 1024 * 1024 + 100;
const UTC = ':UTC';
// The order in which a handler's file is looked for. What is loaded from there knows best what kind of module it is.
const EXTENSIONS = ['', '.js', '.mjs', '.cjs'];

/** What is the same for every invocation of an instance. See lang/README.md. */
class Settings {
  constructor(config) {
    this.functionName = config.function_name;
    this.functionVersion = config.function_version;
    this.handler = config.handler;
    this.memory = String(config.memory_mib);
    this.logGroup = config.log_group;
    this.logStream = config.log_stream;
    this.responseMax = config.response_max ?? RESPONSE_MAX;
  }
}

/** Makes this process the place that the function expects, but for its folder: its settings. */
function settle(config) {
  const settings = new Settings(config);
  const variables = environment(config, settings);
  native.environment(Object.entries(variables).map(([name, value]) => `${name}=${value}`));
  logging.configure(variables.AWS_LAMBDA_LOG_FORMAT, variables.AWS_LAMBDA_LOG_LEVEL);
  // V8 and the module loader have looked at theirs when the template began.
  if (variables.TZ !== UTC) process.env.TZ = variables.TZ;
  if (variables.NODE_PATH !== NODE_PATH) Module._initPaths();
  return settings;
}

/** What is left to settle in a child of a dedicated template. */
function resettle(settings, { log_stream: logStream }) {
  if (logStream === undefined) return;
  settings.logStream = logStream;
  process.env.AWS_LAMBDA_LOG_STREAM_NAME = logStream;
}

function environment(config, settings) {
  return {
    _HANDLER: settings.handler,
    AWS_REGION: config.region,
    AWS_DEFAULT_REGION: config.region,
    AWS_EXECUTION_ENV: `AWS_Lambda_${config.runtime}`,
    AWS_LAMBDA_FUNCTION_NAME: settings.functionName,
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: settings.memory,
    AWS_LAMBDA_FUNCTION_VERSION: settings.functionVersion,
    AWS_LAMBDA_INITIALIZATION_TYPE: config.initialization_type,
    AWS_LAMBDA_LOG_GROUP_NAME: settings.logGroup,
    AWS_LAMBDA_LOG_STREAM_NAME: settings.logStream,
    AWS_XRAY_CONTEXT_MISSING: 'LOG_ERROR',
    HOME: '/tmp',
    LAMBDA_RUNTIME_DIR: '/var/runtime',
    LAMBDA_TASK_ROOT: TASK_ROOT,
    LANG: 'en_US.UTF-8',
    LD_LIBRARY_PATH: '/var/task:/var/task/lib:/opt/lib',
    NODE_PATH,
    PATH: `${path.dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin:/opt/bin`,
    PWD: TASK_ROOT,
    TZ: UTC,
    ...config.environment,
  };
}

/** Loads a module as a file of the function's would. */
function requireFromTask(name) {
  return require(require.resolve(name, { paths: [TASK_ROOT] }));
}

/** The function that `file.name` or `folder/file.name.inner` means, or a promise of it. */
function load(handler) {
  const { name, file, inner } = parse(handler);
  try {
    const found = locate(file);
    const loaded = found.endsWith('.mjs') ? import(pathToFileURL(found)) : loadFile(found);
    if (!(loaded instanceof Promise)) return pick(loaded, inner, handler);
    return loaded.then((exports) => pick(exports, inner, handler), (error) => Promise.reject(explain(error, name)));
  } catch (error) {
    throw explain(error, name);
  }
}

function parse(handler) {
  const folder = path.dirname(handler);
  const [, name, inner] = /^([^.]*)\.(.*)$/.exec(path.basename(handler)) ?? [];
  if (inner === undefined || handler.includes('..')) {
    throw new Fault('Runtime.MalformedHandlerName', `'${handler}' is not a valid handler name: it is FILE.FUNCTION`);
  }
  return { name, file: path.resolve(TASK_ROOT, folder, name), inner };
}

function locate(file) {
  for (const extension of EXTENSIONS) {
    if (fs.statSync(file + extension, { throwIfNoEntry: false })?.isFile()) return file + extension;
  }
  return require.resolve(path.basename(file), { paths: [TASK_ROOT, path.dirname(file)] });
}

function loadFile(file) {
  try {
    return require(file);
  } catch (error) {
    // An ES module by its package's word, or one that waits while it is loaded.
    if (error?.code !== 'ERR_REQUIRE_ESM' && error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    return import(pathToFileURL(file));
  }
}

function pick(exports, inner, handler) {
  const found = inner.split('.').reduce((object, name) => object?.[name], exports);
  if (found === undefined) throw new Fault('Runtime.HandlerNotFound', `${handler} is undefined or not exported`);
  if (typeof found !== 'function') throw new Fault('Runtime.HandlerNotFound', `${handler} is not a function`);
  return found;
}

function explain(error, name) {
  if (error instanceof Fault) return error;
  if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
    return new Fault('Runtime.ImportModuleError', String(error), error);
  }
  if (error instanceof SyntaxError) return new Fault('Runtime.UserCodeSyntaxError', String(error), error);
  return error;
}

module.exports = { TASK_ROOT, NODE_PATH, Settings, settle, resettle, requireFromTask, load };
