// Answers in parts: the stream that a handler of awslambda.streamifyResponse writes to, and how its invocation ends.
//
//   handler's promise settles ─┬─► the stream has finished ─► answer
//                              ├─► it finishes later ───────► answer
//                              ╰─► it never can ────────────► an error
//
// The channel takes a part when the client has taken those before it; until then the stream holds what is written, and
// tells its writers so by write()'s result and 'drain', as all of Node's streams do.
'use strict';

const { Writable } = require('node:stream');

const native = require('./lichen.node');
const { Fault } = require('./lichen_errors.cjs');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const RESPONSE = 'response';
const BYTES = 'application/octet-stream';
// What a function calls a stream that begins with what describes the HTTP response, and what ends that.
const DESCRIBED = 'application/vnd.awslambda.http-integration-response';
const DELIMITER_LENGTH = 8;
const NOTHING = new Uint8Array(0);
const UNFINISHED = 'Response stream is not finished.';

/** What a handler writes its answer to. */
class ResponseStream extends Writable {
  constructor(highWaterMark) {
    super(highWaterMark === undefined ? {} : { highWaterMark });
    this.type = BYTES;
    this.opened = false;
    this.written = false;
    this.waiting = null;
    // Errors are the invocation's; nobody else need listen.
    this.on('error', () => {});
  }

  setContentType(type) {
    if (this.written) throw new Fault('Runtime.InvalidStreamingOperation', 'Cannot set content-type, too late.');
    this.type = String(type);
  }

  write(chunk, encoding, callback) {
    const data = isData(chunk) ? chunk : JSON.stringify(chunk);
    if (this.written) return super.write(data, encoding, callback);
    this.cork();
    if (typeof this._onBeforeFirstWrite === 'function') this._onBeforeFirstWrite((part) => super.write(part));
    this.written = true;
    const goesOn = super.write(data, encoding, callback);
    this.uncork();
    return goesOn;
  }

  end(chunk, encoding, callback) {
    const last = typeof chunk === 'function' ? undefined : chunk;
    if (last !== undefined && last !== null) this.write(last, typeof encoding === 'string' ? encoding : undefined);
    return super.end([chunk, encoding, callback].find((given) => typeof given === 'function'));
  }

  _write(chunk, encoding, done) {
    this.send(chunk, 0, done);
  }

  _writev(chunks, done) {
    this.send(Buffer.concat(chunks.map(({ chunk }) => chunk)), 0, done);
  }

  _final(done) {
    if (!this.opened) this.send(NOTHING, 0, () => this.settle(done));
    else this.settle(done);
  }

  _destroy(error, done) {
    this.waiting = null;
    done(error);
  }

  send(chunk, from, done) {
    let at = from;
    if (!this.opened) {
      at = native.open(this.type, chunk);
      this.opened = at >= 0;
      if (!this.opened) {
        this.waiting = () => this.send(chunk, 0, done);
        return;
      }
    }
    while (at < chunk.length) {
      const taken = native.part(chunk, at);
      if (taken === 0) {
        this.waiting = () => this.send(chunk, at, done);
        return;
      }
      at += taken;
    }
    done();
  }

  /** Calls when all that was sent has been taken. */
  settle(done) {
    if (native.idle()) done();
    else this.waiting = () => this.settle(done);
  }

  /** There may be room. */
  goOn() {
    const waiting = this.waiting;
    this.waiting = null;
    waiting?.();
  }
}

function isData(chunk) {
  return typeof chunk === 'string' || Buffer.isBuffer(chunk) || chunk?.constructor === Uint8Array;
}

/** An invocation whose answer comes in parts. `finish(succeeded, body)` is called once. */
class Streamed {
  constructor(highWaterMark, finish, failure) {
    this.stream = new ResponseStream(highWaterMark);
    this.finish = finish;
    this.failure = failure;
    this.open = true;
    // What is waited for once the stream is none any more.
    this.ending = null;
  }

  /** What the handler has returned. */
  follow(result) {
    if (typeof result?.then !== 'function') {
      this.fail(new Error('Streaming does not support non-async handlers.'));
      return;
    }
    result.then((value) => this.returned(value), (error) => this.fail(error));
  }

  returned(value) {
    if (value !== undefined) console.warn('Streaming handlers ignore return values.');
    const { stream } = this;
    if (stream.closed) this.closed();
    else stream.once('close', () => this.closed());
  }

  closed() {
    if (this.stream.writableFinished) this.end(true, '');
    else this.fail(this.stream.errored ?? new Error(UNFINISHED));
  }

  fail(error) {
    if (!this.open) return;
    this.stream.destroy();
    this.end(false, this.failure(error));
  }

  end(succeeded, body) {
    if (!this.open) return;
    this.open = false;
    this.ending = () => {
      // An error comes after all parts that were sent before it.
      if (!native.idle()) return;
      this.ending = null;
      this.finish(succeeded, body);
    };
    this.ending();
  }

  /** The bell has rung. */
  goOn() {
    if (this.ending !== null) this.ending();
    else this.stream.goOn();
  }

  /** The event loop is empty: nothing will happen any more. */
  nothingLeft() {
    if (this.stream.writableFinished) this.end(true, '');
    else this.fail(new Error(UNFINISHED));
  }
}

/** Whether a handler wants to answer in parts. */
function isStreaming(handler) {
  return handler[STREAMING] === RESPONSE;
}

function begin(handler, finish, failure) {
  return new Streamed(handler[HIGH_WATER_MARK], finish, failure);
}

function streamifyResponse(handler, options) {
  handler[STREAMING] = RESPONSE;
  if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
  return handler;
}

class HttpResponseStream {
  /** Has the stream begin with what the response is: its status, headers and cookies. */
  static from(stream, metadata) {
    stream.setContentType(DESCRIBED);
    const description = JSON.stringify(metadata);
    stream._onBeforeFirstWrite = (write) => {
      write(description);
      write(new Uint8Array(DELIMITER_LENGTH));
    };
    return stream;
  }
}

/** Gives functions the global name by which they find both. */
function install() {
  globalThis.awslambda = { ...globalThis.awslambda, streamifyResponse, HttpResponseStream };
}

module.exports = { install, isStreaming, begin };
