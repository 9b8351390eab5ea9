'use strict';

// What a server asks its primary to share with the servers of its siblings: the keys of TLS session tickets. Node gives the data of
// the first worker to all others, whatever it is, and theirs end when it is no key. See ipc.cjs.

const { isQuery } = require('../query.cjs');

// 48 bytes, the only length that Node accepts.
const KEYS = /^[0-9a-f]{96}$/;

/** The TLS ticket keys in a server's data; undefined if it has none. */
function keysOf(data) {
  const keys = Object(data).ticketKeys;
  return typeof keys === 'string' && KEYS.test(keys) ? keys : undefined;
}

/** The stage that lets nothing but keys be shared. A server whose data is something else gets its own back, with any answer. */
function ownData({ worker }) {
  const own = new Map();
  return {
    hears(message) {
      // One that leaves gets no answer.
      if (!isQuery(message) || message.data == null || worker.exitedAfterDisconnect) return false;
      if (keysOf(message.data) === undefined) {
        own.set(message.seq, message.data);
        message.data = null;
      }
      return false;
    },
    says(message) {
      if (!own.has(message.ack)) return;
      message.data = own.get(message.ack);
      own.delete(message.ack);
    },
  };
}

module.exports = { keysOf, ownData };
