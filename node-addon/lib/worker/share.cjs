'use strict';

// One share of an address in a worker: takes connections for the net.Server that owns the handle, one at a time and each in
// a tick of its own, and leaves them to others while the server cannot have more.

const fs = require('node:fs');

const { opener, watch } = require('../connection.cjs');
const { load } = require('../load.cjs');

const OLD_ZERO = Number(process.versions.node.split('.')[0]) < 21;
const LOOK_AGAIN = 100;
const DESCRIPTORS = [5, 100];

let ownerSymbol;

// The net.Server behind the handle that Node made for it.
function ownerOf(handle) {
  ownerSymbol ??= Object.getOwnPropertySymbols(handle).find((symbol) => symbol.description === 'owner_symbol');
  return ownerSymbol && handle[ownerSymbol];
}

function nothing() {}

// As Node's own worker asks before it takes a connection.
function isFull(server) {
  const most = server?.maxConnections;
  if (most === undefined || most === null || server.dropMaxConnection) return false;
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
 * Makes `handle`, Node's stand-in for a listening socket, one that gets its connections from a share. `closed` is called
 * when the handle is closed, `stopped` when the last connection has been taken: none comes any more; `delivered` when the
 * server has got one. What it returns takes, when called, all that wait now.
 */
function serve(listener, handle, { closed, stopped = nothing, delivered = nothing }) {
  const { EAGAIN, EMFILE, ENFILE } = load();
  let open;
  let resting = null;

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
    const server = ownerOf(handle);
    if (resting) return;
    if (isFull(server)) {
      rest(() => !isFull(server), LOOK_AGAIN, LOOK_AGAIN);
      return;
    }
    const fd = listener.accept();
    if (fd < 0) {
      refused(fd);
      return;
    }
    deliver(fd, server);
  }

  function deliver(fd, server) {
    open ??= opener(listener.isTcp);
    const connection = open(fd);
    if (!connection) return;
    handle.onconnection(0, connection);
    delivered();
    const { maxConnections } = server ?? {};
    if (maxConnections !== undefined && maxConnections !== null) {
      // One that goes makes room at once.
      connection[ownerSymbol]?.once('close', () => resting?.look());
    }
  }

  function refused(errno) {
    if (errno === -EAGAIN) return;
    if (errno === -EMFILE || errno === -ENFILE) rest(hasDescriptor, ...DESCRIPTORS);
    else {
      // Asked to leave, or the primary is gone: nothing comes any more.
      listener.ignore();
      stopped();
    }
  }

  // The server is about to be closed, and maybe nobody else is there: all that wait are taken at once.
  function takeAll() {
    const server = ownerOf(handle);
    for (let fd = 0; fd >= 0 && !resting && !isFull(server); ) {
      fd = listener.accept();
      try {
        if (fd >= 0) deliver(fd, server);
      } catch (error) {
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  const { close } = handle;
  handle.close = function closeShare(...args) {
    if (resting) clearTimeout(resting.timer);
    resting = null;
    listener.close();
    closed();
    return Reflect.apply(close, this, args);
  };

  watch(listener, turn);
  return takeAll;
}

module.exports = { serve };
