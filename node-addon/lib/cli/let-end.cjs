'use strict';

// In the worker. Node keeps a worker alive for its channel to the primary alone; a script that was written for one
// process ends when it has nothing left to do, and so shall it here.

const cluster = require('node:cluster');

function letEnd() {
  const { channel } = process;
  const getServer = cluster._getServer;
  let questions = 0;
  channel.unref();
  // While the primary is being asked for an address, the channel is something to wait for.
  cluster._getServer = function(server, options, answered) {
    if (questions++ === 0) channel.ref();
    return getServer.call(this, server, options, (...answer) => {
      answered(...answer);
      if (--questions === 0) channel.unref();
    });
  };
}

module.exports = { letEnd };
