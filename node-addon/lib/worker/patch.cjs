'use strict';

// A worker of Node's cluster. Node's own code still asks for addresses and gets the answers on Node's channel. An answer names a
// share that has already arrived on the engine's channel; connections come from there.

const { load } = require('../addon.cjs');
const { closeChannel } = require('../environment.cjs');
const { OWN_END, isDatagram } = require('../query.cjs');
const { countRequests } = require('./count.cjs');
const { serve, trackHttp2 } = require('./share.cjs');
const { watchShared } = require('./shared.cjs');

// An idle worker does not need these.
require.keep?.('./burden.cjs');
require.keep?.('./drain.cjs');
require.keep?.('./hand-back.cjs');
require.keep?.('./http-connections.cjs');

// Tells the primary, in each query, that this worker can take a share.
const MARK = { crs: 1 };

// How long a worker that leaves waits for the engine to say that no more connections come. Longer than the engine itself waits.
const LAST = 3500;

// How a send to a dead primary fails. Node notices the death only later, by the end of the channel.
const GONE = ['EPIPE', 'ECONNRESET', 'ERR_IPC_CHANNEL_CLOSED'];

/**
 * process.send that ignores a dead primary for node:cluster's own messages. Their failure would be an exception that ends a leaving
 * worker with its requests in hand. What the program sends fails as it does in Node.
 */
function sendOwn(send) {
  function told(error) {
    if (error && !GONE.includes(error.code)) process.emit('error', error);
  }
  return function sendToPrimary(message, handle, ...rest) {
    const own = message?.cmd === 'NODE_CLUSTER' && rest.length === 0 && typeof handle !== 'function';
    return Reflect.apply(send, this, own ? [message, handle, undefined, told] : [message, handle, ...rest]);
  };
}

function nothing() {}

/** This worker's membership; undefined if it cannot join. Connections then come in Node's own way. */
function join(place) {
  let native;
  try {
    native = load();
    return native.Member.adopt(place.fd, place.id, place.slot) ?? undefined;
  } catch (error) {
    // The addon, if it was loaded, has closed the channel.
    if (!native) closeChannel(place.fd);
    process.emitWarning(`${error.message}; this worker gets its connections through Node's own channel`, {
      type: 'ClusterWarning',
      code: native ? 'CLUSTER_RS_WORKER' : error.code,
    });
    return undefined;
  }
}

/**
 * Patches node:cluster in a worker that a primary with this package forked. Without a place everything stays Node's. The result says
 * whether it has one.
 */
function patch(cluster, place) {
  const member = place && join(place);
  const worker = cluster.worker ?? {};
  let burden;
  const burdened = () => (burden ??= new (require('./burden.cjs').Burden)(worker, (told) => member?.setLoad(told)));
  worker.setLoad = (told) => {
    burdened();
    worker.setLoad(told);
  };
  cluster.ready = () => {
    member?.ready();
  };
  if (!place) return false;
  if (cluster.worker) cluster.worker.slot = place.slot;
  if (!member) return false;
  countRequests(member);
  process.send = sendOwn(process.send);
  const shares = new Map();
  const servers = () => Array.from(shares.values(), ({ server }) => server);

  // As in Node, a worker that leaves may finish even without its primary.
  function drainAll(how) {
    member.outlive();
    for (const { server, share, takeAll } of shares.values()) {
      takeAll();
      require('./drain.cjs').drain(server, share.returns(), how);
    }
  }

  // Node's callback for an answer runs while the message that brought it is emitted. Node closes all servers at `disconnect`.
  let message;
  let leave;
  process.prependListener('internalMessage', (received) => {
    message = received;
    const { cmd, act } = Object(received);
    if (cmd !== 'NODE_CLUSTER' || (act !== 'disconnect' && act !== OWN_END)) return;
    for (const { takeAll } of shares.values()) takeAll();
    if (act === OWN_END) {
      // Before the program's handler, which closes its idle connections first.
      drainAll({ isPrograms: true });
      mayOutlive();
      return;
    }
    if (received.crsServed || isServed()) {
      drainAll();
      return;
    }
    // The last worker's leaving gives an address up. Whoever has already come is served before the servers are closed.
    mayOutlive();
    received.act = 'served first';
    leave ??= () => {
      clearTimeout(timer);
      leave = nothing;
      process.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'disconnect', crsServed: true });
    };
    const timer = setTimeout(() => leave(), LAST);
  });

  // The worker goes on if the primary dies meanwhile. Node sets its mark when it hears the message.
  function mayOutlive() {
    member.outlive();
    if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
  }

  function isServed() {
    return Array.from(shares.values()).every((share) => share.isServed());
  }

  // The primary learns of it before it learns of any listener that is closed, to which connections could be handed back.
  function tellFirst() {
    try {
      member.disconnect();
    } catch {
      // It is gone, or this worker could not join it.
    }
  }

  const { disconnect } = cluster.Worker.prototype;
  cluster.Worker.prototype.disconnect = function disconnectWorker(...args) {
    tellFirst();
    drainAll({ isToCome: true });
    return Reflect.apply(disconnect, this, args);
  };

  const getServer = cluster._getServer;
  cluster._getServer = function _getServer(server, query, callback) {
    if (isDatagram(query)) return Reflect.apply(getServer, this, [server, query, callback]);

    return Reflect.apply(getServer, this, [server, { ...query, ...MARK }, function answered(errno, handle, ...rest) {
      const share = handle && !errno && message?.crs !== undefined ? member.take(message.crs) : undefined;
      if (typeof share === 'number') {
        handle.close();
        return Reflect.apply(callback, this, [share, null, ...rest]);
      }
      if (!share) {
        const outcome = Reflect.apply(callback, this, [errno, handle, ...rest]);
        if (handle && !errno) watchShared(member, handle);
        return outcome;
      }
      trackHttp2(server);
      if (message.crsLoad === 1) burdened().measure(servers);
      const { handle: used, takeAll, isServed: isDone } = serve(share, handle, server, {
        closed: () => shares.delete(handle),
        // Not in the turn in which the last connection may have come.
        stopped: () => leave && setImmediate(() => isServed() && leave()),
        taken: () => burden?.connected(),
      });
      shares.set(handle, { server, share, takeAll, isServed: isDone });
      const outcome = Reflect.apply(callback, this, [errno, used, ...rest]);
      // In a worker that leaves Node closes the servers by the stand-ins, which are all that it knows.
      if (used !== handle) for (const symbol of Object.getOwnPropertySymbols(used)) handle[symbol] = used[symbol];
      return outcome;
    }]);
  };
  return true;
}

module.exports = { patch };
