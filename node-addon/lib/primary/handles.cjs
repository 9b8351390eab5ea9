'use strict';

// Handles that workers send to the primary's program: `process.send(message, socket)`. Node makes sockets and servers of them without
// a look, and leaves them open when nobody listens.

const dgram = require('node:dgram');
const net = require('node:net');

const { isInternal } = require('../query.cjs');
const { shareOfDescriptors } = require('./limit.cjs');

// What each type is made of.
const STREAMS = ['TCP', 'Pipe'];
const DATAGRAMS = ['UDP'];
const CLASSES = new Map([
  ['net.Native', STREAMS], ['net.Server', STREAMS], ['net.Socket', STREAMS], ['dgram.Native', DATAGRAMS], ['dgram.Socket', DATAGRAMS],
]);

// Node keeps a list for each server whose sockets are sent. A name of one is a kind of address and an address.
const SERVERS = 256;
const LONGEST_NAME = 1024;

// Sockets that nobody listens for are left to Node for a moment, so many at a time and so long, in milliseconds: it closes them when
// their clients do. One that is closed at once surprises a client that has just connected.
const UNHEARD = 8;
const MOMENT = 1000;

// Handles that are open at a time, of one worker and of all, and the parts of this process's descriptors that they may be.
const OF_ONE = [4, 1024];
const OF_ALL = [2, 4096];

function nothing() {}

// Whether it may be the name of a server.
function isName(key) {
  return typeof key === 'string' && key.length <= LONGEST_NAME && !(key in Object.prototype);
}

// Those that the program got, and maybe has, by worker.
const given = new Map();

function countOpen() {
  return Array.from(given.values()).reduce((count, handles) => count + handles.size, 0);
}

function forgetClosed() {
  for (const [worker, handles] of given) {
    for (const handle of handles) if (!(handle.fd >= 0)) handles.delete(handle);
    if (handles.size === 0) given.delete(worker);
  }
}

function ownerOf(handle) {
  const symbol = Object.getOwnPropertySymbols(handle).find(({ description }) => description === 'owner_symbol');
  return symbol && handle[symbol];
}

// Closing the handle under a datagram socket would be the end of this process when the program closes the socket.
function close(handle) {
  const owner = ownerOf(handle) ?? handle;
  try {
    if (typeof owner.destroy === 'function') owner.destroy();
    else owner.close();
  } catch {
    // The program has closed it.
  }
}

/** The handles that one worker sends. */
class Handles {
  #cluster;
  #worker;
  #own;
  #servers = new Set();
  #warn;
  #offend;
  #told = false;
  #unheard = 0;

  /**
   * `warn` is told in a sentence, once; `offend(what)` when the worker sends what no Node sends. To be made before the program can
   * have put listeners on the worker.
   */
  constructor(cluster, worker, warn, offend) {
    this.#cluster = cluster;
    this.#worker = worker;
    this.#own = new Set([...worker.process.listeners('message'), ...worker.listeners('message')]);
    this.#warn = warn;
    this.#offend = offend;
  }

  /** What is wrong with a message that says it has a handle, in words; undefined if Node sends such. */
  fault({ type, dgramType, key, msg }, handle) {
    if (!CLASSES.has(type)) return 'a handle of a type that Node does not know';
    if (msg === undefined || isInternal(msg)) return 'a handle without a message of the program';
    if (type === 'dgram.Socket' && dgramType !== 'udp4' && dgramType !== 'udp6') return 'a datagram socket of no known type';
    if (key !== undefined && !this.#isServer(key)) return 'a socket of a server that cannot be';
    if (handle && !CLASSES.get(type).includes(handle.constructor.name)) return 'a handle that is not what it says';
    return undefined;
  }

  #isServer(key) {
    if (!isName(key)) return false;
    return this.#servers.size < SERVERS || this.#servers.has(key);
  }

  /** Takes a handle without a fault. Returns whether that is all; otherwise Node goes on with it. */
  take(message, handle) {
    const isHeard = this.#isHeard();
    const mayWait = message.type === 'net.Socket' && this.#unheard < UNHEARD;
    if (!isHeard && !mayWait) return this.#refuse(message, handle, 'nobody listens for it');
    const most = shareOfDescriptors(...OF_ONE);
    const isMuch = () => this.#count() >= most || countOpen() >= shareOfDescriptors(...OF_ALL);
    if (isMuch()) forgetClosed();
    if (this.#count() >= most) {
      handle.close();
      this.#offend(`more than ${most} handles`);
      return true;
    }
    if (isMuch()) return this.#refuse(message, handle, 'too many are open');
    if (!given.has(this.#worker)) given.set(this.#worker, new Set());
    given.get(this.#worker).add(handle);
    if (message.key !== undefined) this.#servers.add(message.key);
    if (!isHeard) this.#closeSoon(handle);
    return this.#deliver(message, handle);
  }

  #closeSoon(handle) {
    this.#tell('nobody listens for it');
    this.#unheard += 1;
    setTimeout(() => {
      this.#unheard -= 1;
      close(handle);
    }, MOMENT).unref();
  }

  #count() {
    return given.get(this.#worker)?.size ?? 0;
  }

  // As Node does, but an error of what the worker made is not the program's.
  #deliver({ type, dgramType, msg }, handle) {
    if (type === 'net.Socket') {
      // Node keeps the list of the sockets of a server. It makes the socket in this tick and passes it on in a later one.
      process.nextTick(() => ownerOf(handle)?.on('error', nothing));
      return false;
    }
    this.#acknowledge();
    const emit = (object) => this.#emit(msg, object);
    if (type === 'net.Server') {
      const server = new net.Server();
      server.on('error', () => {
        if (server.listening) return;
        handle.close();
        this.#offend('a server that cannot listen');
      });
      server.listen(handle, () => emit(server));
    } else if (type === 'dgram.Socket') {
      const socket = dgram.createSocket(dgramType).on('error', nothing);
      socket.bind(handle, () => emit(socket));
    } else emit(handle);
    return true;
  }

  #emit(msg, object) {
    process.nextTick(() => this.#worker.process.emit('message', msg, object));
  }

  #acknowledge() {
    const { process: child } = this.#worker;
    if (child.channel) child._send({ cmd: 'NODE_HANDLE_ACK' }, null, true);
  }

  /** Closes what the program got of this worker. */
  closeAll() {
    for (const handle of given.get(this.#worker) ?? []) close(handle);
    given.delete(this.#worker);
  }

  #isHeard() {
    const isProgram = (listener) => !this.#own.has(listener);
    return this.#cluster.listenerCount('message') > 0 ||
      this.#worker.listeners('message').some(isProgram) || this.#worker.process.listeners('message').some(isProgram);
  }

  #refuse({ msg }, handle, why) {
    handle.close();
    this.#acknowledge();
    this.#emit(msg);
    this.#tell(why);
    return true;
  }

  #tell(why) {
    if (!this.#told) this.#warn(`worker ${this.#worker.id}: it sent a handle, which was closed: ${why}`);
    this.#told = true;
  }
}

module.exports = { Handles, isName };
