'use strict';

const { isStock, ...scenario } = require('./scenario.cjs');

const major = Number(process.versions.node.split('.')[0]);

module.exports = {
  ...require('./clients.cjs'),
  ...require('./mechanism.cjs'),
  ...require('./processes.cjs'),
  ...scenario,
  isStock,
  major,
  // The options of a test whose promise is not stock Node's: left out under CLUSTER_MODULE=node:cluster.
  ours: { skip: isStock && 'only cluster-rs promises this' },
};
