'use strict';

// What a server asks its primary to share with the servers of its siblings: the keys of TLS session tickets. Node gives the data of
// the first worker to all others, whatever it is, and theirs end when it is no key. See ipc.cjs.

const { isQuery } = require('../query.cjs');

// 48 bytes, the only length that Node accepts.
const KEYS = /^[0-9a-f]{96}$/;
// What else a server may have, as JSON. What is nested deeply could be read and not be sent.
const LONGEST = 4096;

/** The TLS ticket keys in a server's data; undefined if it has none. */
function keysOf(data) {
  const keys = Object(data).ticketKeys;
  return typeof keys === 'string' && KEYS.test(keys) ? keys : undefined;
}

function plain(data) {
  try {
    const text = JSON.stringify(data);
    return text.length > LONGEST ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/** The stage that lets nothing but keys be shared. A server whose data is something else gets its own back, with any answer. */
function ownData({ worker }) {
  const own = new Map();
  return {
    hears(message) {
      if (!isQuery(message) || message.data == null) return false;
      const keys = keysOf(message.data);
      // One that leaves gets no answer.
      if (keys === undefined && !worker.exitedAfterDisconnect) own.set(message.seq, plain(message.data));
      message.data = keys === undefined ? null : { ticketKeys: keys };
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
