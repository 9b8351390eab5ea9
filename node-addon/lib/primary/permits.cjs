'use strict';

// Sockets that Node itself opens for a worker are judged by the same rules as the engine's. See ipc.cjs.

const { errno: ERRNO } = require('node:os').constants;

const { addressOf } = require('../address.cjs');
const { isDatagram, isQuery, keyOf } = require('../query.cjs');
const { reply } = require('./ipc.cjs');

/** The stage that judges datagram sockets and, if `isAll`, everything. `permits()` says what is declared. */
function permitQueries(engine, { worker, id }, permits, isAll) {
  return {
    hears(message) {
      if (!isQuery(message) || !(isAll || isDatagram(message))) return false;
      const wanted = addressOf(message);
      const unheardOf = permits().rules ? -ERRNO.EACCES : 0;
      const errno = wanted ? engine.checkListen(id, wanted) : unheardOf;
      if (errno === 0) return false;
      reply(worker, { errno, key: keyOf(message), ack: message.seq, data: message.data });
      return true;
    },
  };
}

module.exports = { permitQueries };
