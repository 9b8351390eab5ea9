'use strict';

// Node's own primary trusts its workers: some messages would bring it down. A worker that sends one is killed, and the message is
// ignored. Nobody else notices. See ipc.cjs.

const { isDatagram, isQuery, keyOf } = require('../query.cjs');
const { PASSED_OVER } = require('./ipc.cjs');

const HANDLES = ['net.Native', 'net.Server', 'net.Socket', 'dgram.Native', 'dgram.Socket'];

function isInteger(value, least, most) {
  return Number.isInteger(value) && value >= least && value <= most;
}

// The fields of a datagram query, which goes to Node's own code.
function isDatagramQuery({ address, port, fd, flags, index }) {
  return (
    (address == null || typeof address === 'string') &&
    (port == null || isInteger(port, -1, 65535)) &&
    (fd == null || isInteger(fd, -1, 0x7fffffff)) &&
    (flags == null || isInteger(flags, 0, 0x7fffffff)) &&
    isInteger(index, 0, Number.MAX_SAFE_INTEGER) &&
    // Node leaves a socket without any of these unbound, and cannot send what it made.
    (Boolean(address) || port > 0 || fd >= 0)
  );
}

// Node makes a key of them.
function isKey({ address, port, addressType, fd, index }) {
  return [address, port, addressType, fd, index].every((value) => value === null || !/object|function|symbol/.test(typeof value));
}

// What is wrong with an internal message, in words; undefined if Node's code can handle it.
function offence(child, message) {
  if (message === null || typeof message !== 'object') return 'an internal message that is no object';
  const { cmd, act, type } = message;
  if (cmd === 'NODE_HANDLE') return HANDLES.includes(type) ? undefined : 'a handle of a type that Node does not know';
  if (cmd === 'NODE_HANDLE_ACK' || cmd === 'NODE_HANDLE_NACK') {
    return Array.isArray(child._handleQueue) ? undefined : 'the acknowledgement of a handle that it was not sent';
  }
  if (cmd !== 'NODE_CLUSTER') return undefined;
  // Node looks an act up in an object, and finds what every object has.
  if (act != null && (typeof act !== 'string' || act in Object.prototype)) return 'an act that is none';
  if (act !== 'queryServer') return undefined;
  if (!isKey(message)) return 'a query with what is no text and no number';
  return isDatagram(message) && !isDatagramQuery(message) ? 'a query for a socket that cannot be' : undefined;
}

// Node's own primary assumes that a worker never asks twice for what it has. Until version 22 it crashes; later versions forget
// the socket that they opened first.
class Asked {
  #open = new Set();
  #unanswered = new Map();
  #byKey = new Map();

  /** A query of the worker's; false if it has that already. */
  query(message) {
    const asked = keyOf(message);
    if (this.#open.has(asked)) return false;
    this.#open.add(asked);
    this.#unanswered.set(message.seq, asked);
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

// Ends a worker whose bytes are no message at all. What listeners throw does not come through here: they run in a later tick.
function guardReading(child, punish) {
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

/** The stage that keeps a worker's messages from ending the primary. `warn` is told in a sentence. */
function guard(worker, warn) {
  const { process: child } = worker;
  const asked = new Asked();

  function punish(what) {
    warn(`worker ${worker.id}: it sent ${what} and was ended`);
    child.kill('SIGKILL');
  }

  guardReading(child, punish);
  return {
    hears(message) {
      let what = offence(child, message);
      if (what === undefined && message.cmd === 'NODE_CLUSTER' && message.act === 'close') asked.close(message.key);
      if (what === undefined && isQuery(message) && !asked.query(message)) what = 'a query for what it has already';
      if (what === undefined) return false;
      punish(what);
      // Some of Node's listeners look at the command alone.
      if (Object(message) === message) message.cmd = PASSED_OVER;
      return true;
    },
    says(message) {
      if (message.ack !== undefined) asked.answer(message);
    },
  };
}

module.exports = { guard };
