'use strict';

// In the worker. The channel to the primary alone keeps a Node worker alive. A script that was written for one process is to end when
// it has nothing left to do, as it does without a cluster.

const cluster = require('node:cluster');

function letEnd() {
  const { channel } = process;
  const getServer = cluster._getServer;
  let questions = 0;
  channel.unref();
  // While a query is unanswered the channel keeps the worker alive.
  cluster._getServer = function(server, options, answered) {
    if (questions++ === 0) channel.ref();
    return getServer.call(this, server, options, (...answer) => {
      answered(...answer);
      if (--questions === 0) channel.unref();
    });
  };
}

module.exports = { letEnd };
