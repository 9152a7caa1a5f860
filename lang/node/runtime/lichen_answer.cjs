// From an event's text to an answer's, for one invocation. It knows no channel, so a template can rehearse it.
//
//   handler returns a promise ─► it settles ─────────────────────────────────────────────► answer
//   handler calls back ────────► at once, or when the event loop is empty ───────────────► answer
//   handler does neither ──────► the event loop is empty ────────────────────────────────► answer: null, or an error
//   handler streams ───────────► see lichen_stream.cjs
'use strict';

const errors = require('./lichen_errors.cjs');
const logging = require('./lichen_logging.cjs');
const streaming = require('./lichen_stream.cjs');
const { Context } = require('./lichen_context.cjs');

const { Fault } = errors;
// A character takes three bytes at most (a pair of surrogates four).
const BYTES_MAX = 3;

// Kept, for a collection of garbage would else take the shapes of its objects along, and children would make them anew.
let last = null;

/** An invocation that is being served. `finish(succeeded, body)` is called once. */
class Answer {
  constructor(settings, finish) {
    this.settings = settings;
    this.finish = finish;
    this.context = null;
    this.open = true;
    this.promised = false;
    // What a callback has said, kept until the event loop is empty.
    this.kept = undefined;
  }

  end(succeeded, body) {
    if (!this.open) return;
    this.open = false;
    this.finish(succeeded, body);
  }

  succeed(value) {
    if (!this.open) return;
    let body;
    try {
      body = JSON.stringify(value === undefined ? null : value) ?? 'null';
    } catch {
      this.fail(new Error('Unable to stringify response body'));
      return;
    }
    const limit = this.settings.responseMax;
    if (body.length * BYTES_MAX > limit && Buffer.byteLength(body) > limit) this.end(false, tooLarge(limit));
    else this.end(true, body);
  }

  fail(error) {
    if (this.open) this.end(false, failure(error));
  }

  callBack(error, value) {
    if (error !== null && error !== undefined) this.fail(error);
    else if (this.context?.callbackWaitsForEmptyEventLoop) this.kept = value === undefined ? null : value;
    else this.succeed(value);
  }

  /** The bell has rung: nothing here waits for it. */
  goOn() {}

  /** The event loop is empty: nothing will happen any more. */
  nothingLeft() {
    if (!this.promised) this.succeed(this.kept);
    else this.fail(new Fault('Runtime.NodeJsExit', 'The handler returned a promise that nothing is left to settle.'));
  }
}

/** Runs the handler, calling `begin` just before. */
function answer(handler, settings, invocation, begin, finish) {
  logging.setRequest(invocation[2], invocation[6]);
  const streams = streaming.isStreaming(handler);
  const ours = streams ? streaming.begin(handler, finish, failure) : new Answer(settings, finish);
  try {
    if (streams) stream(ours, handler, settings, invocation, begin);
    else run(ours, handler, settings, invocation, begin);
  } catch (error) {
    ours.fail(error);
  }
  last = ours;
  return ours;
}

function run(ours, handler, settings, invocation, begin) {
  const ends = {
    done: (error, value) => (error === null || error === undefined ? ours.succeed(value) : ours.fail(error)),
    succeed: (value) => ours.succeed(value),
    fail: (error) => ours.fail(error ?? 'handled'),
  };
  ours.context = new Context(settings, invocation, ends);
  const event = decode(invocation[0]);
  begin();
  const result = handler(event, ours.context, (error, value) => ours.callBack(error, value));
  if (typeof result?.then === 'function') {
    ours.promised = true;
    result.then(ends.succeed, (error) => ours.fail(error));
  }
}

function stream(ours, handler, settings, invocation, begin) {
  const context = new Context(settings, invocation, null);
  const event = decode(invocation[0]);
  begin();
  ours.follow(handler(event, ours.stream, context));
}

function decode(text) {
  try {
    return text === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw new Fault('Runtime.UnmarshalError', `Unable to unmarshal input: ${error.message}`);
  }
}

/** Logs an error: Lambda's object of it, as text. */
function failure(error, what = 'Invoke Error') {
  logging.failure(what, error);
  return JSON.stringify(errors.describe(error));
}

/** What becomes of an answer that is longer than the limit. */
function tooLarge(limit) {
  const errorMessage = `Response payload size exceeded maximum allowed payload size (${limit} bytes).`;
  return JSON.stringify({ errorType: 'Function.ResponseSizeTooLarge', errorMessage });
}

module.exports = { answer, failure, tooLarge };
