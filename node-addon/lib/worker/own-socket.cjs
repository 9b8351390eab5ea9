'use strict';

// A net.Server on its slot's own socket, from which Node accepts by itself. This is only for servers that take whatever comes. A
// server that may have to leave connections to other workers takes them from the mailbox, one by one.

const fs = require('node:fs');

const { classOf } = require('../connection.cjs');

const SERVER = 1; // TCPConstants.SERVER.

// The listeners from whose own socket Node accepts.
const owners = new Set();

/** This process ends, maybe because its primary is dead. Without this a child of its own could keep the addresses open. */
function endOwnSockets() {
  // One call is for all of them.
  const [listener] = owners;
  listener?.endIfOrphaned();
}

function atExit() {
  // Node's channel, where there is one, tells that the primary lives.
  if (process.connected === false) endOwnSockets();
}

// What is called when the program limits a server's connections, by the setter that notices it.
const watching = new WeakMap();

function descriptorOf(server, name) {
  for (let at = server; at !== null; at = Object.getPrototypeOf(at)) {
    const found = Object.getOwnPropertyDescriptor(at, name);
    if (found) return found;
  }
  return undefined;
}

// Calls `limited` once, when the program limits the server's connections. Returns whether that can be noticed: a class of the
// program may have an accessor of its own, or the server be frozen.
function watchLimit(server, limited) {
  const known = descriptorOf(server, 'maxConnections');
  if (watching.has(known?.set)) {
    watching.set(known.set, limited);
    return true;
  }
  if (known?.get || known?.set || known?.configurable === false || !Object.isExtensible(server)) return false;
  function set(value) {
    // As if it had never been watched.
    Object.defineProperty(server, 'maxConnections', { configurable: true, enumerable: true, writable: true, value });
    if (value != null) watching.get(set)();
    else watchLimit(server, watching.get(set));
  }
  watching.set(set, limited);
  Object.defineProperty(server, 'maxConnections', {
    configurable: true, enumerable: known !== undefined, get: () => known?.value, set,
  });
  return true;
}

/**
 * The handle on the slot's own socket, to be used in place of Node's stand-in; undefined if there is none or it cannot be used.
 */
function takeOwnSocket(listener, standIn, server) {
  const { backlog } = listener;
  const limited = () => listener.leaveOwnSocket();
  if (backlog === undefined || server.maxConnections != null || !watchLimit(server, limited)) {
    listener.leaveOwnSocket();
    return undefined;
  }
  // The handle first: see connection.cjs.
  const handle = new (classOf(true))(SERVER);
  const fd = listener.takeSocket();
  if (fd < 0 || handle.open(fd) !== 0) {
    listener.leaveOwnSocket();
    handle.close();
    if (fd >= 0) fs.closeSync(fd);
    return undefined;
  }
  // Node calls listen(2) again, with this worker's backlog. The backlog of the first worker that asked is the one for all.
  const { listen } = handle;
  handle.listen = () => Reflect.apply(listen, handle, [backlog]);
  if (owners.size === 0) process.once('exit', atExit);
  owners.add(listener);
  // The real one keeps the process running now.
  standIn.unref();
  return handle;
}

/** The listener is closed. */
function forgetOwnSocket(listener) {
  if (owners.delete(listener) && owners.size === 0) process.removeListener('exit', atExit);
}

module.exports = { endOwnSockets, forgetOwnSocket, takeOwnSocket };
