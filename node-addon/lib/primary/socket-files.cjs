'use strict';

// A worker that removes a socket file before it listens, as many programs do, removes the one that others listen on. Where the engine
// accepts it makes the file anew; where Node's own code shares the socket, somebody has to say that nobody can connect. See ipc.cjs.

const fs = require('node:fs');

const { addressOf } = require('../address.cjs');
const { isQuery } = require('../query.cjs');

// Workers can bring it about at will.
const TELL_AGAIN = 10_000;
let told = -Infinity;

/** The stage that looks whether a socket file is there once a worker has a share of it. `warn` is told in a sentence. */
function watchSocketFiles(warn) {
  // The paths that were asked for, by the number of the query.
  const asked = new Map();
  return {
    hears(message) {
      const [, file] = isQuery(message) ? /^unix:(\/.*)$/s.exec(addressOf(message)?.address) ?? [] : [];
      if (file !== undefined) asked.set(message.seq, file);
      return false;
    },
    says({ ack, errno }) {
      const file = asked.get(ack);
      asked.delete(ack);
      if (file === undefined || errno || performance.now() - told < TELL_AGAIN || fs.existsSync(file)) return;
      told = performance.now();
      warn(`unix:${file}: nobody can connect, because the socket file was removed (the workers have the old socket, and cannot be ` +
        'given another); the file of a dead server is replaced under the other policies anyway, so a worker need not remove it before ' +
        'it listens');
    },
  };
}

module.exports = { watchSocketFiles };
