'use strict';

// Node's own handle for a connection that is known by its descriptor.

const fs = require('node:fs');
const net = require('node:net');

const { load } = require('./load.cjs');

const SOCKET = 0; // TCPConstants.SOCKET and PipeConstants.SOCKET.
const classes = new Map();

// The classes are not public; an instance leads to them.
function classOf(tcp) {
  let found = classes.get(tcp);
  if (!found) {
    const socket = new net.Socket({ fd: load().unconnectedSocket(tcp), manualStart: true });
    found = socket._handle.constructor;
    socket.destroy();
    classes.set(tcp, found);
  }
  return found;
}

/** A function that makes a handle of a descriptor, which is closed if that fails; undefined then. */
function opener(tcp) {
  const Handle = classOf(tcp);
  return function open(fd) {
    const handle = new Handle(SOCKET);
    if (handle.open(fd) === 0) return handle;
    handle.close();
    fs.closeSync(fd);
    return undefined;
  };
}

/** Calls `turn` whenever the listener may have a connection, each time in an async scope of its own. */
function watch(listener, turn) {
  const scoped = () => {
    const { AsyncResource } = require('node:async_hooks');
    new AsyncResource('CLUSTER_RS').runInAsyncScope(turn);
  };
  listener.watch(turn, scoped, process.env.CLUSTER_RS_WAIT === 'thread');
}

module.exports = { classOf, opener, watch };
