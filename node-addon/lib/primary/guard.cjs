'use strict';

// Node's own primary trusts its workers: some messages would bring it down. A worker that sends one is killed, and the message is
// ignored. Nobody else notices. See ipc.cjs.

const { errno: ERRNO } = require('node:os').constants;

const { isDatagram, isQuery, keyOf } = require('../query.cjs');
const { Channel } = require('./channel.cjs');
const { Handles, isName } = require('./handles.cjs');
const { PASSED_OVER, reply } = require('./ipc.cjs');
const { shareOfDescriptors } = require('./limit.cjs');
const { boundAnswers } = require('./unread.cjs');

// How many addresses one worker may have, and the part of this process's descriptors that they may be. Node opens some without end.
const ADDRESSES = [2, 4096];

const ASKS_CLOSED = 'NODE_SOCKET_NOTIFY_CLOSE';
const ASKS_COUNT = 'NODE_SOCKET_GET_COUNT';

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

// Node makes a key of most of them, and gives all to the system.
function isPlain({ address, port, addressType, fd, index, flags }) {
  const values = [address, port, addressType, fd, index, flags];
  return values.every((value) => value === null || !/object|function|symbol|bigint/.test(typeof value));
}

// What the program is told of a worker that listens.
function isListening({ address, port, addressType, fd }) {
  return (
    (address == null || typeof address === 'string') &&
    (port == null || isInteger(port, -1, 65535)) &&
    (addressType == null || [-1, 4, 6, 'udp4', 'udp6'].includes(addressType)) &&
    (fd == null || isInteger(fd, -1, 0x7fffffff))
  );
}

// What is wrong with an internal message, in words; undefined if Node's code can handle it.
function offence(child, message) {
  if (message === null || typeof message !== 'object') return 'an internal message that is no object';
  const { cmd, act, seq } = message;
  if (cmd === 'NODE_HANDLE_ACK' || cmd === 'NODE_HANDLE_NACK') {
    return Array.isArray(child._handleQueue) ? undefined : 'the acknowledgement of a handle that it was not sent';
  }
  if (cmd !== 'NODE_CLUSTER') return undefined;
  // An answer repeats it.
  if (seq !== undefined && typeof seq !== 'number') return 'a number that is none';
  // Node looks an act up in an object, and finds what every object has.
  if (act != null && (typeof act !== 'string' || act in Object.prototype)) return 'an act that is none';
  if (act === 'listening') return isListening(message) ? undefined : 'an address that cannot be';
  if (act !== 'queryServer') return undefined;
  if (!isPlain(message)) return 'a query with what is no text and no number';
  return isDatagram(message) && !isDatagramQuery(message) ? 'a query for a socket that cannot be' : undefined;
}

// Node's own primary assumes that a worker never asks twice for what it has. Until version 22 it crashes; later versions forget
// the socket that they opened first.
class Asked {
  #open = new Set();
  #unanswered = new Map();
  #byKey = new Map();

  /** How many it has, or waits for. */
  get count() {
    return this.#open.size;
  }

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

// False for one that runs as a user whom this process may not signal. ChildProcess.kill makes that an 'error'.
function kill({ pid, exitCode, signalCode }) {
  if (exitCode !== null || signalCode !== null) return true;
  try {
    return process.kill(pid, 'SIGKILL');
  } catch ({ code }) {
    return code === 'ESRCH';
  }
}

/**
 * The stage that keeps a worker's messages from ending the primary, and from filling it. `warn` is told in a sentence;
 * `shutOut` is called for one that was to be ended and cannot be. To be made as soon as the worker is there.
 */
function guard(cluster, worker, warn, shutOut) {
  const { process: child } = worker;
  const asked = new Asked();
  let isEnded = false;

  function offend(what) {
    if (isEnded) return;
    isEnded = true;
    warn(`worker ${worker.id}: it sent ${what} and was ended`);
    if (!kill(child)) shutOut();
    channel.hangUp();
    handles.closeAll();
  }

  const channel = new Channel(child, offend);
  const handles = new Handles(cluster, worker, warn, offend);
  boundAnswers(child, () => offend('queries without reading the answers'));

  // Returns whether Node may not see it.
  function hearHandle(message, handle) {
    channel.claim(handle);
    const what = child.channel ? handles.fault(message, handle) : 'a handle after its end';
    if (what === undefined) return Boolean(handle) && handles.take(message, handle);
    handle?.close();
    if (child.channel) offend(what);
    return true;
  }

  // A worker that closes a server asks about the sockets of it that it has sent. Node answers only where it has got one of them.
  function hearAsking({ cmd, key }) {
    if (!isName(key)) return true;
    // Node notes each time that it is asked.
    if (channel.hasList(key)) return cmd === ASKS_CLOSED && channel.isAsking(key);
    const answer = cmd === ASKS_CLOSED ? { cmd: 'NODE_SOCKET_ALL_CLOSED' } : { cmd: 'NODE_SOCKET_COUNT', count: 0 };
    if (child.channel) child._send({ ...answer, key }, null, true);
    return true;
  }

  function hearQuery(message) {
    // Nobody answers one that leaves.
    if (worker.exitedAfterDisconnect) return false;
    if (asked.count >= shareOfDescriptors(...ADDRESSES)) {
      reply(worker, { errno: -ERRNO.EMFILE, key: keyOf(message), ack: message.seq, data: message.data });
      return true;
    }
    if (asked.query(message)) return false;
    offend('a query for what it has already');
    return true;
  }

  function hear(message, handle) {
    if (isEnded) {
      handle?.close();
      return true;
    }
    // Node passes on a port that is a text, and takes it.
    if (isQuery(message) && isDatagram(message) && typeof message.port === 'string' && /^\d+$/.test(message.port)) {
      message.port = Number(message.port);
    }
    const what = offence(child, message);
    if (what !== undefined) {
      offend(what);
      return true;
    }
    if (message.cmd === 'NODE_HANDLE') return hearHandle(message, handle);
    if (message.cmd === ASKS_CLOSED || message.cmd === ASKS_COUNT) return hearAsking(message);
    if (message.cmd === 'NODE_CLUSTER' && message.act === 'close') asked.close(message.key);
    return isQuery(message) && hearQuery(message);
  }

  return {
    hears(message, handle) {
      if (!hear(message, handle)) return false;
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
