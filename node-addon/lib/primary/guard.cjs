'use strict';

// What a worker sends on Node's channel and Node's own primary would fall over: it takes every message for one of its own
// workers'. Such a worker is ended, or its message is passed over; nobody else notices.

const PASSED_OVER = 'cluster-rs';
const HANDLES = ['net.Native', 'net.Server', 'net.Socket', 'dgram.Native', 'dgram.Socket'];

function isInteger(value, least, most) {
  return Number.isInteger(value) && value >= least && value <= most;
}

function isAbsent(value) {
  return value === undefined || value === null;
}

// The fields of a datagram query, which goes to Node's own code.
function isDatagramQuery({ address, port, fd, flags, index }) {
  return (
    (isAbsent(address) || typeof address === 'string') &&
    (isAbsent(port) || isInteger(port, -1, 65535)) &&
    (isAbsent(fd) || isInteger(fd, -1, 0x7fffffff)) &&
    (isAbsent(flags) || isInteger(flags, 0, 0x7fffffff)) &&
    isInteger(index, 0, Number.MAX_SAFE_INTEGER) &&
    // Node leaves a socket without any of these unbound, and cannot send what it made.
    (Boolean(address) || port > 0 || fd >= 0)
  );
}

// Node makes a key of them.
function isQuery({ address, port, addressType, fd, index }) {
  return [address, port, addressType, fd, index].every((value) => value === null || !/object|function|symbol/.test(typeof value));
}

// What is wrong with an internal message, in words; undefined when Node's code can have it.
function offence(child, message) {
  if (message === null || typeof message !== 'object') return 'an internal message that is no object';
  const { cmd, act, type } = message;
  if (cmd === 'NODE_HANDLE') return HANDLES.includes(type) ? undefined : 'a handle of a type that Node does not know';
  if (cmd === 'NODE_HANDLE_ACK' || cmd === 'NODE_HANDLE_NACK') {
    return Array.isArray(child._handleQueue) ? undefined : 'the acknowledgement of a handle that it was not sent';
  }
  if (cmd !== 'NODE_CLUSTER') return undefined;
  // Node looks an act up in an object, and finds what every object has.
  if (!isAbsent(act) && (typeof act !== 'string' || act in Object.prototype)) return 'an act that is none';
  const datagram = message.addressType === 'udp4' || message.addressType === 'udp6';
  if (act === 'queryServer' && !isQuery(message)) return 'a query with what is no text and no number';
  if (act === 'queryServer' && datagram && !isDatagramQuery(message)) return 'a query for a socket that cannot be';
  return undefined;
}

function nothing() {}

// Node's own primary takes it for granted that a worker does not ask twice for what it has: until version 22 it falls over,
// and later it forgets the socket that it had opened first.
class Asked {
  #open = new Set();
  #unanswered = new Map();
  #byKey = new Map();

  /** A query of the worker's; false if it has that already. */
  query({ address, port, addressType, fd, index, seq }) {
    const asked = `${address}:${port}:${addressType}:${fd}:${index}`;
    if (this.#open.has(asked)) return false;
    this.#open.add(asked);
    this.#unanswered.set(seq, asked);
    return true;
  }

  /** The primary's answer: what was refused may be asked for again. */
  answer({ ack, errno, key }) {
    const asked = this.#unanswered.get(ack);
    if (asked === undefined) return;
    this.#unanswered.delete(ack);
    if (errno) this.#open.delete(asked);
    else this.#byKey.set(key, asked);
  }

  /** The worker has closed what it had under a key. */
  close(key) {
    this.#open.delete(this.#byKey.get(key));
    this.#byKey.delete(key);
  }
}

// What Node's primary itself says to a worker that has just gone is no error of the program's; without a callback it would
// be one.
function sendQuietly(child, asked) {
  const { send } = child;
  child.send = function sendGuarded(message, ...rest) {
    if (message?.cmd !== 'NODE_CLUSTER') return Reflect.apply(send, this, [message, ...rest]);
    if (message.ack !== undefined) asked.answer(message);
    const callback = rest.find((argument) => typeof argument === 'function') ?? nothing;
    return Reflect.apply(send, this, [message, rest[0], undefined, callback]);
  };
}

/** From now on nothing that this worker sends ends the primary. `warn` is told in a sentence. */
function guard(worker, warn) {
  const { process: child } = worker;
  const asked = new Asked();
  sendQuietly(child, asked);

  function punish(what) {
    warn(`worker ${worker.id}: it sent ${what} and was ended`);
    child.kill('SIGKILL');
  }

  child.prependListener('internalMessage', (message) => {
    let what = offence(child, message);
    if (what === undefined && message.cmd === 'NODE_CLUSTER') {
      if (message.act === 'close') asked.close(message.key);
      else if (message.act === 'queryServer' && !asked.query(message)) what = 'a query for what it has already';
    }
    if (what === undefined) return;
    punish(what);
    if (message !== null && typeof message === 'object') {
      message.cmd = PASSED_OVER;
      message.act = PASSED_OVER;
    }
  });

  // Bytes that are no message at all. What listeners throw does not come through here: they are called in a later tick.
  const symbol = Object.getOwnPropertySymbols(child).find(({ description }) => description === 'kChannelHandle');
  const channel = symbol && child[symbol];
  const onread = channel?.onread;
  if (typeof onread !== 'function') return;
  channel.onread = function readGuarded(...args) {
    try {
      return Reflect.apply(onread, this, args);
    } catch (error) {
      punish(`what is no message (${error.message.split('\n')[0].replace(/\p{C}/gu, '?')})`);
      return undefined;
    }
  };
}

module.exports = { guard };
