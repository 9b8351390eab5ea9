'use strict';

// Where the program is when a connection comes: at the bottom of the event loop.

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

module.exports = { watch };
