'use strict';

// SCHED_NONE: a listening socket that Node's own code has opened for all workers, and from which each of them accepts.

/** Has one worker woken for a connection, and not all. To be called when the server listens on the handle. */
function watchShared(member, handle) {
  const { fd, onconnection, close } = handle;
  // What is no socket, or was closed.
  if (!(fd >= 0) || typeof onconnection !== 'function') return;
  member.watchShared(fd);
  // libuv makes its entry in the next turn of the loop, and in the one after that it is made anew.
  setImmediate(() => setImmediate(() => {}));
  handle.onconnection = function took(...args) {
    member.tookShared(fd);
    return Reflect.apply(onconnection, this, args);
  };
  handle.close = function closeShared(...args) {
    member.forgetShared(fd);
    return Reflect.apply(close, this, args);
  };
}

module.exports = { watchShared };
