'use strict';

// Where the program is when a connection comes: at the bottom of the event loop.

/** Calls `turn` whenever the listener may have a connection, each time in an async scope of its own. */
function watch(listener, turn) {
  const scoped = () => {
    const { AsyncResource } = require('node:async_hooks');
    new AsyncResource('CLUSTER_RS').runInAsyncScope(turn);
  };
  listener.watch(turn, scoped, process.env.CLUSTER_RS_WAIT === 'thread');
}

module.exports = { watch };
