'use strict';

// A Node process that is a worker of a primary in C or Rust, or behind a package runner. It has no channel of Node's; it asks for
// addresses on the engine's channel.

const { errno: ERRNO } = require('node:os').constants;

const { addressOf, refusalOf } = require('../address.cjs');
const { BEHIND_WRAPPER } = require('../environment.cjs');
const { isDatagram } = require('../query.cjs');
const { Burden } = require('./burden.cjs');
const { countRequests } = require('./count.cjs');
const { drain } = require('./drain.cjs');
const { endOwnSockets } = require('./own-socket.cjs');
const { serve, trackHttp2 } = require('./share.cjs');
const { standIn } = require('./stand-in.cjs');

const LONGEST = 2 ** 31 - 1;
// The longest message in bytes; see docs/protocol.md.
const LONGEST_MESSAGE = 65536;
// The engine's own codes are below the system's.
const LAST_ERRNO = 4095;

function nothing() {}

// The addon's sentence about a failed call names the errno.
function errnoOf(error) {
  const [, errno] = /\(errno ([0-9]+)\)$/.exec(error.message) ?? [];
  return errno === undefined ? ERRNO.EPIPE : Number(errno);
}

class Membership {
  #member;
  #failure;
  #adopt;
  #taken;
  #cluster;
  #shares = new Set();
  #hold;
  #left = false;
  #load;
  #ownEnd;

  /** `taken` is called when this process has the place, or nobody can have it any more. */
  constructor(cluster, adopt, taken) {
    this.#taken = taken;
    this.#cluster = cluster;
    this.#adopt = adopt;
  }

  // Behind a runner several programs may start with the same environment. The first that listens takes the place.
  join() {
    if (!this.#member && !this.#failure) {
      this.#member = this.#take();
      if (this.#load !== undefined) this.#member?.setLoad(this.#load);
      // As in Node, a worker stays until it is let go.
      if (this.#member) this.#hold = setInterval(nothing, LONGEST);
    }
    return this.#member;
  }

  // A failure leaves it a worker: if it took itself for a primary it would start workers.
  #take() {
    try {
      this.#taken();
      const member = this.#adopt();
      if (member) countRequests(member);
      if (member) this.#ownEnd?.joined();
      member?.watch(() => this.#read(), process.env.CLUSTER_RS_WAIT === 'thread');
      return member;
    } catch (error) {
      this.#failure = error;
      const text = `this worker could not join its primary: ${error.message}`;
      process.emitWarning(text, { type: 'ClusterWarning', code: 'CLUSTER_RS_WORKER' });
      return undefined;
    }
  }

  #read() {
    const { message, errno } = this.#member.receive();
    if (message) this.#cluster.worker.emit('message', message);
    if (message || errno === -ERRNO.EAGAIN) return;
    this.#member.unwatch();
    if (errno === -ERRNO.EPIPE && !this.#left && !this.#ownEnd?.isSignalled) {
      endOwnSockets();
      process.exit(0);
    }
    this.leave();
  }

  send(message) {
    if (typeof message !== 'string' && !ArrayBuffer.isView(message)) {
      const error = new TypeError('The "message" argument must be a string or a Buffer: this primary is not Node\'s');
      throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
    }
    const bytes = typeof message === 'string' ? Buffer.from(message) : message;
    if (bytes.byteLength > LONGEST_MESSAGE) {
      const error = new Error(`The message has ${bytes.byteLength} bytes; at most ${LONGEST_MESSAGE} fit`);
      throw Object.assign(error, { code: 'EMSGSIZE', errno: -ERRNO.EMSGSIZE, syscall: 'send' });
    }
    const member = this.join();
    if (this.#failure) throw this.#failure;
    member?.send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    return true;
  }

  /** Reported when it is a member. */
  setLoad(load) {
    this.#load = load;
    this.#member?.setLoad(load);
  }

  /** Asks the primary to be let go. When that answers, all servers are closed. */
  disconnect() {
    if (this.#member) this.#member.disconnect();
    else this.leave();
  }

  /** Takes what still waits, up to the primary's STOP behind it, and then closes all servers. */
  leave() {
    if (this.#left) return;
    this.#left = true;
    const { worker } = this.#cluster;
    worker.exitedAfterDisconnect = true;
    if (this.#ownEnd?.begin()) {
      this.#member?.unwatch();
      clearInterval(this.#hold);
      return;
    }
    let open = 1;
    const closed = () => {
      open -= 1;
      if (open > 0) return;
      this.#member?.unwatch();
      clearInterval(this.#hold);
      worker.state = 'disconnected';
      worker.emit('disconnect');
      this.#ownEnd?.finished();
    };
    for (const share of this.#shares) {
      open += 1;
      share.close = () => {
        drain(share.server, share.granted.returns());
        if (share.server.listening) share.server.close(closed);
        else {
          share.handle.close();
          closed();
        }
      };
      if (share.stopped) share.close();
    }
    process.nextTick(closed);
  }

  /** See environment.cjs. */
  endBy(ownEnd) {
    this.#ownEnd = ownEnd;
  }

  get isConnected() {
    return !this.#left;
  }

  listen(server, query, callback) {
    const wanted = addressOf(query);
    const member = this.join();
    if (this.#failure) return callback(-errnoOf(this.#failure), null);
    if (!member || this.#left) return callback(-ERRNO.EPIPE, null);
    if (!wanted) return callback(-ERRNO.EINVAL, null);
    // Node counts its own listens on a port 0 from 0 for each server; the primary's "next" is the same.
    const share = member.listen({ ...wanted, index: 0 });
    if (typeof share === 'number') {
      return callback(share < -LAST_ERRNO ? -ERRNO.EPROTO : refusalOf(wanted, share), null);
    }
    trackHttp2(server);
    const handle = standIn(share.sockname);
    const known = { server, handle, granted: share, stopped: false, close: nothing };
    this.#shares.add(known);
    const { handle: used, takeAll } = serve(share, handle, server, {
      closed: () => this.#shares.delete(known),
      stopped: () => {
        known.stopped = true;
        takeAll();
        known.close();
      },
    });
    server.once('listening', () => {
      this.#cluster.worker.state = 'listening';
    });
    known.handle = used;
    return callback(0, used);
  }
}

/** Patches node:cluster, which was loaded as a worker's. `taken`: see Membership. */
function patch(cluster, Member, { fd, id, slot }, taken) {
  const worker = new cluster.Worker({ id, process, state: 'online' });
  const isChild = Member.primaryOf(fd, id, slot) === process.ppid;
  const { [BEHIND_WRAPPER]: ending } = process.env;
  const membership = new Membership(cluster, () => Member.adoptForeign(fd, id, slot), taken);
  worker.slot = slot;
  // It does not know its primary's policy, so it reports a load only if the program does.
  new Burden(worker, (load) => membership.setLoad(load));
  cluster.worker = worker;
  worker.send = (message, callback) => {
    const sent = membership.send(message);
    if (typeof callback === 'function') process.nextTick(callback, null);
    return sent;
  };
  worker.isConnected = () => membership.isConnected;
  worker.disconnect = () => {
    membership.disconnect();
    return worker;
  };
  worker.destroy = () => process.exit(0);
  worker.kill = worker.destroy;

  cluster._getServer = function _getServer(server, query, callback) {
    if (isDatagram(query)) process.nextTick(callback, -ERRNO.EOPNOTSUPP, null);
    else process.nextTick(() => membership.listen(server, query, callback));
  };

  if (!isChild && ending) membership.endBy(new (require(ending).OwnEnd)());
  // The primary's own child joins at once.
  if (isChild) membership.join();
}

module.exports = { patch };
