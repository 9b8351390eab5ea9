'use strict';

// Patches node:cluster in place, once in a process, whoever asks first and however many copies of this package there are.

const cluster = require('node:cluster');

const PATCHED = Symbol.for('cluster-rs.patched');

if (!cluster[PATCHED]) {
  const patch = cluster.isPrimary ? require('./primary/patch.cjs') : require('./worker/patch.cjs');
  patch(cluster);
  Object.defineProperty(cluster, PATCHED, { value: true });
  // What ESM programs import from node:cluster is a copy of its properties.
  require('node:module').syncBuiltinESMExports();
}

module.exports = cluster;
