'use strict';

// A net.Server on its slot's own socket, from which Node accepts by itself. This is only for servers that take whatever comes. A
// server that may have to leave connections to other workers takes them from the mailbox, one by one.

const fs = require('node:fs');
const net = require('node:net');

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

// Node's cluster makes handles in the first way. The second needs an example of the class, which costs an idle worker more memory.
// But a thread can be terminated between two steps, so it makes the handle before it has the descriptor; see connection.cjs.
function handleOn(takeSocket) {
  const isThread = process.chdir.disabled === true;
  const handle = isThread ? new (require('../connection.cjs').classOf(true))(SERVER) : undefined;
  const fd = takeSocket();
  const made = fd < 0 ? fd : handle ? handle.open(fd) || handle : net._createServerHandle(null, undefined, undefined, fd);
  if (typeof made !== 'number') return made;
  handle?.close();
  if (fd >= 0) fs.closeSync(fd);
  return undefined;
}

/**
 * The handle on the slot's own socket, to be used in place of Node's stand-in; undefined if there is none or it cannot be used.
 */
function takeOwnSocket(listener, standIn, server) {
  const { backlog } = listener;
  if (backlog === undefined || server.maxConnections != null) {
    listener.leaveOwnSocket();
    return undefined;
  }
  const handle = handleOn(() => listener.takeSocket(server));
  if (!handle) {
    listener.leaveOwnSocket();
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
