'use strict';

// Makes Node's own handle for a connection's descriptor.

const fs = require('node:fs');
const net = require('node:net');

const { load } = require('./addon.cjs');

const SOCKET = 0; // TCPConstants.SOCKET and PipeConstants.SOCKET.
const classes = new Map();

// A net.Socket that begins to connect has a handle. For TCP the port is refused before Node looks at the host and opens anything: the
// pattern of an IPv6 address alone costs a worker 160 kB. A unix socket would connect at once.
function example(tcp) {
  if (tcp) {
    const socket = new net.Socket();
    try {
      socket.connect({ port: -1 });
    } catch {
      // As it should.
    }
    return socket;
  }
  return new net.Socket({ fd: load().unconnectedSocket(), manualStart: true });
}

// Node does not export the classes; an instance leads to them.
function classOf(tcp) {
  let found = classes.get(tcp);
  if (!found) {
    const socket = example(tcp);
    found = socket._handle.constructor;
    socket.destroy();
    classes.set(tcp, found);
  }
  return found;
}

/**
 * A function that takes a connection by `accept()`, which returns its descriptor or a negative errno value. It returns a handle, or
 * that value; undefined if the connection had to be closed because no handle could be made. The handle is made first: an
 * environment can be terminated wherever JavaScript runs, and a descriptor that is only a number would stay open.
 */
function taker(tcp) {
  const Handle = classOf(tcp);
  return function take(accept) {
    const handle = new Handle(SOCKET);
    const fd = accept();
    if (fd >= 0 && handle.open(fd) === 0) return handle;
    handle.close();
    if (fd < 0) return fd;
    fs.closeSync(fd);
    return undefined;
  };
}

module.exports = { classOf, taker };
