// FIFOs: messages from many writers to one reader, through memory, wherever the two run. See docs/fifo.md.
//
//   const inbox = await fifo.create();           another function, told inbox.id:
//   await inbox.grant(other, 'w');               const out = await fifo.connectWriter(id);
//   const reader = await inbox.connectReader();  await out.write(Buffer.from('…'));
//   const message = await reader.read();
//
// The work is done by the runtime's addon; nothing here keeps a state beside the numbers of ends.
'use strict';

const native = require('./lichen.node');

/** Something could not be done with a FIFO. */
class FifoError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** This process does not hold the right: ask an owner to grant it. */
class NotPermitted extends FifoError {}

/** Nothing has happened in time. */
class TimedOut extends FifoError {}

/** The other side will not go on: `why` is closed, died, lost, revoked or broken; `sender` whose end it was, of a reader. */
class Ended extends FifoError {
  constructor(message, why, sender) {
    super(message);
    this.why = why;
    this.sender = sender;
  }
}

function done([word, value]) {
  if (word === '') return value;
  if (word === 'timeout') throw new TimedOut(value);
  if (word === 'not-permitted') throw new NotPermitted(value);
  if (word === 'value') throw new RangeError(value);
  if (word === 'failed') throw new FifoError(value);
  throw new Ended(value, word);
}

const call = (...operation) => done(native.fifo(...operation));

/** This process, as others name it when they grant it rights. */
async function processId() {
  return call('process_id');
}

/** Makes a FIFO, which this process owns: with an id of its own choice, or a new one. */
async function create({ id = '', messageMax = 0 } = {}) {
  return new Fifo(call('create', String(id), Number(messageMax)));
}

/** Connects as the one who reads. */
async function connectReader(id) {
  return new Reader(call('reader', String(id)));
}

/** Connects as one of those who write. */
async function connectWriter(id) {
  return new Writer(call('writer', String(id)));
}

/** A FIFO that this process has made. It ends with `close`, or with the process. */
class Fifo {
  constructor(id) {
    this.id = id;
  }

  /** Gives a process rights: `r` to read, `w` to write, `o` to grant and revoke in its turn. */
  async grant(process, rights) {
    call('grant', String(process), this.id, String(rights));
  }

  /** Takes them back. From then on nothing that the process writes is read any more. */
  async revoke(process, rights) {
    call('revoke', String(process), this.id, String(rights));
  }

  connectReader() {
    return connectReader(this.id);
  }

  connectWriter() {
    return connectWriter(this.id);
  }

  /** Ends it for all. */
  async close() {
    call('release', this.id);
  }
}

/** One end. What is asked of it at once is done one after the other. */
class End {
  #number;
  #last = Promise.resolve();
  #wake = null;

  constructor(number) {
    this.#number = number;
  }

  /** Gives this end up; whoever waits for it is told. */
  async close() {
    native.fifo('close', this.#number);
    this.#wake?.();
  }

  _try(operation, ...more) {
    return call(operation, this.#number, ...more);
  }

  /** Tries until there is an answer, or the time (milliseconds) is over. */
  _patiently(timeout, attempt) {
    const turn = this.#last.then(() => this.#wait(timeout, attempt));
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #wait(timeout, attempt) {
    const until = timeout === undefined ? Infinity : performance.now() + timeout;
    for (;;) {
      const answer = attempt();
      if (answer !== undefined) return answer;
      const left = until - performance.now();
      if (left <= 0) throw new TimedOut('nothing has happened in time');
      await this.#ring(left);
    }
  }

  /** Until it is worth trying again. */
  #ring(left) {
    return new Promise((resolve, reject) => {
      let timer;
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
      try {
        if (!done(native.fifoWait(this.#number, () => this.#wake?.()))) return this.#wake();
      } catch (error) {
        return reject(error);
      }
      if (left === Infinity) return undefined;
      timer = setTimeout(() => {
        native.fifoForget(this.#number);
        this.#wake?.();
      }, left);
    });
  }
}

/** The reading end of a FIFO. */
class Reader extends End {
  /** The next message, a Buffer with its `sender`. Where a writer has ended, and its last message is read, `Ended` says so, once. */
  read({ timeout } = {}) {
    return this._patiently(timeout, () => {
      const heard = this._try('read');
      if (heard === undefined) return undefined;
      const [sender, message, why] = heard;
      if (why !== '') throw new Ended(`a writer of this FIFO will not go on: ${why}`, why, sender);
      message.sender = sender;
      return message;
    });
  }
}

/** A writing end of a FIFO. */
class Writer extends End {
  /** Writes a message (text or bytes), waiting for room. */
  async write(message, { timeout } = {}) {
    await this._patiently(timeout, () => this._try('write', message) || undefined);
  }
}

module.exports = {
  processId,
  create,
  connectReader,
  connectWriter,
  Fifo,
  Reader,
  Writer,
  FifoError,
  NotPermitted,
  TimedOut,
  Ended,
};
