'use strict';

// One share of an address in a worker: where the server does not have a listening socket of its own, takes connections for
// it, one at a time and each in a tick of its own, and leaves them to others while the server cannot have more.

const fs = require('node:fs');

const { taker, watch } = require('../connection.cjs');
const { load } = require('../addon.cjs');
const { forgetOwnSocket, takeOwnSocket } = require('./own-socket.cjs');

const OLD_ZERO = Number(process.versions.node.split('.')[0]) < 21;
const LOOK_AGAIN = 100;
const DESCRIPTORS = [5, 100];

let ownerSymbol;

// Where Node keeps the object behind a handle.
function ownerOf(handle) {
  ownerSymbol ??= Object.getOwnPropertySymbols(handle).find((symbol) => symbol.description === 'owner_symbol');
  return ownerSymbol && handle[ownerSymbol];
}

// As Node's own worker asks before it takes a connection.
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

/**
 * Makes Node's stand-in for a listening socket one that gets its connections from a share. Returns the handle that the server
 * is to have: the stand-in, or a real one. `closed` is called when it is closed, `stopped` when the last connection has been
 * taken: none comes any more; `delivered` when the server has got one from here. `takeAll`, when called, takes all that wait
 * now; `isServed` says whether there is nothing more to wait for.
 */
function serve(listener, standIn, server, { closed, stopped, delivered }) {
  const { EAGAIN, EMFILE, ENFILE, acceptFrom } = load();
  let handle = standIn;
  let take;
  let resting = null;
  let ended = false;

  // Nothing is taken until `ready`, and what waits goes to other workers now.
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

  // One connection. The kernel's hand-over inside accept() is what makes it ours; the program's code comes right behind.
  function turn() {
    if (resting) return;
    if (isFull(server)) {
      rest(() => !isFull(server), LOOK_AGAIN, LOOK_AGAIN);
      return;
    }
    deliver(next(accept));
  }

  function accept() {
    return listener.accept();
  }

  function next(from) {
    try {
      take ??= taker(listener.isTcp);
    } catch {
      // To learn the class of the handles takes a descriptor.
      return -EMFILE;
    }
    return take(from);
  }

  // What `next` gave.
  function deliver(connection) {
    if (connection === undefined) return;
    if (typeof connection === 'number') {
      refused(connection);
      return;
    }
    handle.onconnection(0, connection);
    delivered?.();
    // One that goes makes room at once.
    if (server.maxConnections != null) ownerOf(connection)?.once('close', () => resting?.look());
  }

  function refused(errno) {
    if (errno === -EAGAIN) return;
    if (errno === -EMFILE || errno === -ENFILE) rest(hasDescriptor, ...DESCRIPTORS);
    else {
      // Asked to leave, or the primary is gone: nothing comes any more.
      listener.ignore();
      ended = true;
      stopped?.();
    }
  }

  function takeFrom(from) {
    while (!resting && !isFull(server)) {
      const connection = next(from);
      if (typeof connection === 'number') {
        if (from === accept && !ended && connection !== -EMFILE && connection !== -ENFILE) refused(connection);
        return;
      }
      try {
        deliver(connection);
      } catch (error) {
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  // The server is about to be closed, and maybe nobody else is there: all that wait are taken at once.
  function takeAll() {
    takeFrom(accept);
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
      // First the socket, because the primary takes it away when the share is given back.
      const outcome = Reflect.apply(closeSocket, this, args);
      standIn.close();
      return outcome;
    };
  }
  watch(listener, turn);
  // One that is full leaves what waits to others.
  const isServed = () => ended || resting !== null;
  return { handle, takeAll, isServed };
}

module.exports = { serve };
