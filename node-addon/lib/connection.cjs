'use strict';

// Makes Node's own handle for a connection's descriptor.

const fs = require('node:fs');
const net = require('node:net');

const { load } = require('./addon.cjs');

const SOCKET = 0; // TCPConstants.SOCKET and PipeConstants.SOCKET.
const classes = new Map();

// A net.Socket that begins to connect has a handle. For TCP that has no descriptor until the name is looked up, so nothing is opened
// here. A unix socket would connect at once.
function example(tcp) {
  if (tcp) return new net.Socket().connect({ host: 'localhost', port: 1, lookup() {} });
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

/**
 * Calls `turn` whenever the listener may have a connection, each time in an async scope of its own, and `turnInLine` whenever one may be
 * in the socket that all workers have.
 */
function watch(listener, turn, turnInLine) {
  const scoped = () => {
    const { AsyncResource } = require('node:async_hooks');
    new AsyncResource('CLUSTER_RS').runInAsyncScope(turn);
  };
  const onAThread = process.env.CLUSTER_RS_WAIT === 'thread';
  listener.watch(turn, scoped, onAThread);
  if (turnInLine && !onAThread) listener.watchInTurn(turnInLine);
}

module.exports = { classOf, taker, watch };
