'use strict';

// SCHED_NONE: for a connection the kernel wakes one of the workers that wait. If that one is killed before it has accepted, nobody else
// would be woken for it until the next one comes. See worker/shared.cjs and ipc.cjs.

const { load } = require('../addon.cjs');
const { isDatagram, isQuery } = require('../query.cjs');

// What Node's own code has opened.
const opened = new Set();

/** A worker has ended. */
function rouseShared() {
  for (const handle of opened) {
    if (handle.fd >= 0) load().rouse(handle.fd);
    else opened.delete(handle);
  }
}

/** The stage that sees what a worker is given. */
function noteShared() {
  // By the number of the query.
  const asked = new Set();
  return {
    hears(message) {
      if (isQuery(message) && !isDatagram(message)) asked.add(message.seq);
      return false;
    },
    says({ ack }, handle) {
      if (asked.delete(ack) && handle) opened.add(handle);
    },
  };
}

module.exports = { noteShared, rouseShared };
