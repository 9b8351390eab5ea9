'use strict';

// One share of an address in a worker. If the server does not accept from its slot's own socket, this takes connections from the
// mailbox for it, one at a time and each in a tick of its own, and leaves them to other workers while the server is full.

const fs = require('node:fs');

const { load } = require('../addon.cjs');
const { watch } = require('../watch.cjs');
const { forgetOwnSocket, takeOwnSocket } = require('./own-socket.cjs');

require.keep?.('./sessions.cjs');
require.keep?.('../connection.cjs');

const OLD_ZERO = Number(process.versions.node.split('.')[0]) < 21;
const LOOK_AGAIN = 100;
const DESCRIPTORS = [5, 100];
// How long a worker has listened, in milliseconds, when its start is taken to be over.
const STARTED = 500;
/** A process of more bytes is not small. */
const SMALL = 128 << 20;

let isTrimmed = false;
let ownerSymbol;

// Where Node keeps the object behind a handle.
function ownerOf(handle) {
  ownerSymbol ??= Object.getOwnPropertySymbols(handle).find((symbol) => symbol.description === 'owner_symbol');
  return ownerSymbol && handle[ownerSymbol];
}

// What Node's own worker checks before it takes a connection.
function isFull(server) {
  const { maxConnections: most } = server;
  if (most == null || server.dropMaxConnection) return false;
  // Zero meant "no limit" before Node 21.
  return !(OLD_ZERO && !most) && server._connections >= most;
}

function hasDescriptor() {
  try {
    fs.closeSync(fs.openSync('/dev/null'));
    return true;
  } catch {
    return false;
  }
}

function isSmall() {
  try {
    return process.memoryUsage.rss() < SMALL;
  } catch {
    // Node reads it from a file, and no descriptor is free.
    return false;
  }
}

// What the start of a Node program frees is more than this package needs, but stays with the process. To look through much memory
// would hold the worker up, and where there is much this is little.
function giveBackMemory() {
  if (isTrimmed) return;
  isTrimmed = true;
  setTimeout(() => isSmall() && load().giveBackMemory(), STARTED).unref();
}

/** Node before version 24 keeps no list of an HTTP/2 server's sessions. Only such servers cost the memory for one. */
function trackHttp2(server) {
  if (typeof server.updateSettings === 'function') require('./sessions.cjs').trackSessions(server);
}

/**
 * Makes Node's stand-in for a listening socket get its connections from a share. Returns `handle`, the one that the server is to
 * use: the stand-in or a real one. `closed` is called when it is closed, `taken` when a connection was taken here,
 * `stopped` when none will come any more. `takeAll()` takes all that wait now; `isServed()` says whether nothing more will come.
 */
function serve(listener, standIn, server, { closed, stopped, taken }) {
  const { EAGAIN, EMFILE, ENFILE, acceptFrom } = load();
  let handle = standIn;
  let take;
  let resting = null;
  let ended = false;
  let { isProving } = listener;

  // Takes nothing until `ready()`. What waits goes to other workers at once.
  function rest(ready, first, longest) {
    let delay = first;
    const look = () => {
      clearTimeout(resting.timer);
      if (ready()) {
        wake();
        return;
      }
      delay = Math.min(delay * 2, longest);
      resting.timer = setTimeout(look, delay).unref();
    };
    resting = { timer: setTimeout(look, delay).unref(), look };
    listener.pause();
  }

  function wake() {
    clearTimeout(resting.timer);
    resting = null;
    listener.resume();
  }

  // Takes one connection. It is ours once accept() has returned; the program's code runs right after.
  function turn(from) {
    if (resting) return;
    if (isFull(server)) {
      rest(() => !isFull(server), LOOK_AGAIN, LOOK_AGAIN);
      return;
    }
    handOver(next(from));
  }

  function accept() {
    return listener.accept();
  }

  function acceptInTurn() {
    return listener.acceptInTurn();
  }

  function next(from) {
    try {
      take ??= require('../connection.cjs').taker(listener.isTcp);
    } catch {
      // Learning the class of the handles takes a descriptor.
      return -EMFILE;
    }
    return take(from);
  }

  // Takes what `next` returned.
  function handOver(connection) {
    if (connection === undefined) return;
    if (typeof connection === 'number') {
      refused(connection);
      return;
    }
    handle.onconnection(0, connection);
    taken?.();
    // A connection that ends makes room at once.
    if (server.maxConnections != null) ownerOf(connection)?.once('close', () => resting?.look());
  }

  function refused(errno) {
    if (errno === -EAGAIN) {
      // By now it may have taken the place that it was to take.
      if (isProving && !listener.isProving) {
        isProving = false;
        listener.watchInTurn(() => turn(acceptInTurn));
      }
      return;
    }
    if (errno === -EMFILE || errno === -ENFILE) rest(hasDescriptor, ...DESCRIPTORS);
    else {
      // This worker was asked to leave, or the primary is gone: nothing more will come.
      listener.ignore();
      ended = true;
      stopped?.();
    }
  }

  function takeFrom(from, most = Infinity) {
    for (let taken = 0; taken < most && !resting && !isFull(server); taken += 1) {
      const connection = next(from);
      if (typeof connection === 'number') {
        if (from === accept && !ended && connection !== -EMFILE && connection !== -ENFILE) refused(connection);
        return;
      }
      try {
        handOver(connection);
      } catch (error) {
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  // The server is about to be closed, and there may be no other worker. So it takes all that wait at once.
  function takeAll() {
    takeFrom(accept);
    takeFrom(acceptInTurn, listener.leaveLine());
    if (handle !== standIn) takeFrom(() => acceptFrom(handle.fd));
  }

  const { close } = standIn;
  standIn.close = function closeShare(...args) {
    if (resting) clearTimeout(resting.timer);
    resting = null;
    ended = true;
    forgetOwnSocket(listener);
    listener.close();
    closed();
    return Reflect.apply(close, this, args);
  };
  const real = takeOwnSocket(listener, standIn, server);
  if (real) {
    handle = real;
    const closeSocket = real.close;
    real.close = function closeBoth(...args) {
      // The socket first: the primary takes it away when the share is given back.
      const outcome = Reflect.apply(closeSocket, this, args);
      standIn.close();
      return outcome;
    };
  }
  watch(listener, () => turn(accept), () => turn(acceptInTurn));
  giveBackMemory();
  // A server that is full leaves what waits to others.
  const isServed = () => ended || resting !== null;
  return { handle, takeAll, isServed };
}

module.exports = { serve, trackHttp2 };
