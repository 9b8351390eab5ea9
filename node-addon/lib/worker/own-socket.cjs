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

/**
 * The handle on the slot's own socket, to be used in place of Node's stand-in; undefined if there is none or it cannot be used.
 */
function takeOwnSocket(listener, standIn, server) {
  const { backlog } = listener;
  if (backlog === undefined || server.maxConnections != null) {
    listener.leaveOwnSocket();
    return undefined;
  }
  // The handle first: see connection.cjs.
  const handle = new (classOf(true))(SERVER);
  const fd = listener.takeSocket(server);
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
