'use strict';

// A worker: what it listens on is still asked for and answered on Node's channel, by Node's own code. The answer names a
// share that has already arrived on ours, and connections come from there.

const fs = require('node:fs');

const { load } = require('../addon.cjs');
const { isDatagram } = require('../query.cjs');
const { Burden } = require('./burden.cjs');
const { sendOwn } = require('./repairs.cjs');
const { serve } = require('./share.cjs');

// Tells the primary, in each query, that this worker can take a share.
const MARK = { crs: 1 };

// For how long a worker that leaves waits until the engine says that nobody comes any more: longer than the engine itself waits.
const LAST = 3500;

function nothing() {}

// The primary sees it closed and knows. Without the addon nobody can say whether it is the channel; nothing else that a worker
// inherits beyond its standard streams is a socket of no name.
function closeChannel(fd) {
  try {
    if (fd > 2 && fs.fstatSync(fd).isSocket()) fs.closeSync(fd);
  } catch {
    // It is closed already.
  }
}

/** This worker's membership; undefined where there can be none, and Node's own way is left as it is. */
function join(place) {
  let native;
  try {
    native = load();
    return native.Member.adopt(place.fd, place.id, place.slot) ?? undefined;
  } catch (error) {
    // What cannot be joined has been closed.
    if (!native) closeChannel(place.fd);
    process.emitWarning(`${error.message}; this worker gets its connections through Node's own channel`, {
      type: 'ClusterWarning',
      code: native ? 'CLUSTER_RS_WORKER' : error.code,
    });
    return undefined;
  }
}

// Loaded only by a worker that leaves: what an idle one costs counts. Where no descriptor is left to read it with, connections
// are closed as Node closes them.
function drainer() {
  try {
    return require('./drain.cjs').drain;
  } catch {
    return nothing;
  }
}

/** Patches node:cluster in a worker that a primary with this package forked; without one everything stays Node's. */
function patch(cluster, place) {
  const member = place && join(place);
  const burden = new Burden(cluster.worker ?? {}, (told) => member?.setLoad(told));
  if (!place) return;
  if (cluster.worker) cluster.worker.slot = place.slot;
  if (!member) return;
  process.send = sendOwn(process.send);
  const shares = new Map();
  const servers = () => Array.from(shares.values(), ({ server }) => server);

  // Node lets a worker that leaves finish, primary or not.
  function drainAll() {
    member.outlive();
    const drain = drainer();
    for (const { server, takeAll } of shares.values()) {
      takeAll();
      drain(server);
    }
  }

  // Node calls back for an answer while it emits the message that brought it, and closes all servers when one says so.
  let message;
  let leave;
  process.prependListener('internalMessage', (received) => {
    message = received;
    if (received?.cmd !== 'NODE_CLUSTER' || received.act !== 'disconnect') return;
    for (const { takeAll } of shares.values()) takeAll();
    if (received.crsServed || isServed()) {
      drainAll();
      return;
    }
    // With the last worker an address is given up: whoever had come is served before the servers are closed.
    member.outlive();
    // As Node sets it when it hears of that: if the primary dies meanwhile, this worker goes on.
    if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
    received.act = 'served first';
    leave ??= () => {
      clearTimeout(timer);
      leave = nothing;
      process.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'disconnect', crsServed: true });
    };
    const timer = setTimeout(() => leave(), LAST);
  });

  function isServed() {
    return Array.from(shares.values()).every((share) => share.isServed());
  }

  const { disconnect } = cluster.Worker.prototype;
  cluster.Worker.prototype.disconnect = function disconnectWorker(...args) {
    drainAll();
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
      if (!share) return Reflect.apply(callback, this, [errno, handle, ...rest]);
      if (message.crsLoad === 1) burden.measure(servers);
      const { handle: used, takeAll, isServed: isDone } = serve(share, handle, server, {
        closed: () => shares.delete(handle),
        // Not within the turn in which the last connection may have come.
        stopped: () => leave && setImmediate(() => isServed() && leave()),
        delivered: () => burden.connected(),
      });
      shares.set(handle, { server, takeAll, isServed: isDone });
      const outcome = Reflect.apply(callback, this, [errno, used, ...rest]);
      // Node closes the servers of a worker that leaves by the stand-ins that it knows.
      if (used !== handle) for (const symbol of Object.getOwnPropertySymbols(used)) handle[symbol] = used[symbol];
      return outcome;
    }]);
  };
}

module.exports = { patch };
