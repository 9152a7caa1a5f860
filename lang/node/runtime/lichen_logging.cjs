// What a function prints: console as on Lambda, a record per call with the request's id, and both standard streams
// written at once, so that all of it is in the log before the answer is.
'use strict';

const { Writable } = require('node:stream');
const { format } = require('node:util');

const native = require('./lichen.node');
const errors = require('./lichen_errors.cjs');

const LEVELS = { debug: 'DEBUG', error: 'ERROR', fatal: 'FATAL', info: 'INFO', log: 'INFO', trace: 'TRACE', warn: 'WARN' };

let requestId;

/** Lines from now on belong to this request. */
function setRequest(id) {
  requestId = id;
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

function record(level, text) {
  const line = `${new Date().toISOString()}\t${requestId}\t${level}\t${text}`;
  process.stdout.write(`${line.replaceAll('\n', '\r')}\n`);
}

/** Gives the process its streams, and console its records. */
function install() {
  for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
    Object.defineProperty(process, name, { value: new Output(fd), configurable: true, enumerable: true, writable: true });
  }
  for (const [name, level] of Object.entries(LEVELS)) {
    console[name] = { [name]: (...values) => record(level, format(...values)) }[name];
  }
}

/** Logs an error of the function's. */
function failure(what, thrown) {
  try {
    record('ERROR', `${what}\t${errors.forLog(thrown)}`);
  } catch {
    // The function has put something else in the stream's place: the error itself is still answered.
  }
}

module.exports = { install, setRequest, failure };
