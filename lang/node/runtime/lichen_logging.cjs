// What a function prints: console as on Lambda, a record per call with the request's id, as text or as JSON; and both
// standard streams written at once, so that all of it is in the log before the answer is.
'use strict';

const { Writable } = require('node:stream');
const { format } = require('node:util');

const native = require('./lichen.node');
const errors = require('./lichen_errors.cjs');

const LEVELS = { debug: 'DEBUG', error: 'ERROR', fatal: 'FATAL', info: 'INFO', log: 'INFO', trace: 'TRACE', warn: 'WARN' };
const ORDER = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];

let requestId;
let tenantId;
let isJson = false;
let least = 0;

/** Lines from now on belong to this request, and its tenant. */
function setRequest(id, tenant) {
  requestId = id;
  tenantId = tenant === '' ? undefined : tenant;
}

/** A standard stream: whatever its descriptor is by then. */
class Output extends Writable {
  constructor(fd) {
    super({ decodeStrings: false });
    this.fd = fd;
  }

  _write(chunk, encoding, done) {
    native.print(this.fd, typeof chunk === 'string' && encoding !== 'utf8' ? Buffer.from(chunk, encoding) : chunk);
    done();
  }
}

function record(level, values) {
  if (ORDER.indexOf(level) < least) return;
  const time = new Date().toISOString();
  const line = isJson ? json(time, level, values) : `${time}\t${requestId}\t${level}\t${format(...values)}`;
  process.stdout.write(`${line.replaceAll('\n', '\r')}\n`);
}

/** One value stays what it is; several become a text, beside the first error among them. */
function json(timestamp, level, values) {
  const result = { timestamp, level, requestId, tenantId };
  if (values.length === 1) {
    try {
      return JSON.stringify({ ...result, message: values[0] }, withErrors);
    } catch {
      return JSON.stringify({ ...result, message: format(values[0]) });
    }
  }
  const error = values.find((value) => value instanceof Error);
  const told = error === undefined ? {} : { errorType: typeOf(error), errorMessage: error.message, stackTrace: lines(error) };
  return JSON.stringify({ ...result, message: format(...values), ...told });
}

function withErrors(_, value) {
  if (!(value instanceof Error)) return value;
  return { errorType: typeOf(value), errorMessage: value.message, stackTrace: lines(value), ...value };
}

function typeOf(error) {
  return error instanceof errors.Fault ? error.name : (error.constructor?.name ?? 'UnknownError');
}

function lines(error) {
  return typeof error.stack === 'string' ? error.stack.split('\n') : [];
}

/** Gives the process its streams, and console its records. */
function install() {
  for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
    Object.defineProperty(process, name, { value: new Output(fd), configurable: true, enumerable: true, writable: true });
  }
  for (const [name, level] of Object.entries(LEVELS)) {
    console[name] = { [name]: (...values) => record(level, values) }[name];
  }
}

/** Does what the function's configuration says: its log's format, and the least level that is logged. */
function configure(form, level) {
  isJson = form?.toUpperCase() === 'JSON';
  least = Math.max(ORDER.indexOf(level?.toUpperCase()), 0);
}

/** Logs an error of the function's. */
function failure(what, thrown) {
  try {
    if (isJson) record('ERROR', [thrown instanceof Error ? thrown : new Error(String(thrown))]);
    else record('ERROR', ['%s\t%s', what, errors.forLog(thrown)]);
  } catch {
    // The function has put something else in the stream's place: the error itself is still answered.
  }
}

module.exports = { install, configure, setRequest, failure };
