'use strict';

// Patches node:cluster in place, once in a process, whoever asks first and however many copies of this package there are.

const path = require('node:path');

const environment = require('./environment.cjs');
const { load } = require('./addon.cjs');

const PATCHED = Symbol.for('cluster-rs.patched');

// Package runners. They are no servers themselves: the script that they start takes the place.
const RUNNERS = ['npm', 'npx', 'npm-cli', 'npx-cli', 'yarn', 'yarnpkg', 'pnpm', 'pnpx', 'corepack'];

/** This process as a worker of a primary that is not Node's; undefined if it is none. */
function foreignMember(place) {
  // Node's own worker speaks with its primary on a channel of Node's.
  if (!place || process.channel) return undefined;
  try {
    return load().Member.primaryOf(place.fd, place.id, place.slot) > 0 ? load().Member : undefined;
  } catch (error) {
    process.emitWarning(`${error.message}; this process serves alone`, { type: 'ClusterWarning', code: error.code });
    return undefined;
  }
}

// node:cluster is loaded as what the environment says at that moment, for good.
function loadAsWorker(id) {
  process.env.NODE_UNIQUE_ID = `${id}`;
  try {
    return require('node:cluster');
  } finally {
    delete process.env.NODE_UNIQUE_ID;
  }
}

function isRunner(script = '') {
  return RUNNERS.includes(path.basename(script, path.extname(script)));
}

// If this fails, the program that the runner starts cannot prove its place, and says so itself.
function passOn(place) {
  try {
    if (place) load().Member.passOn(place.fd);
  } catch {
    // See above.
  }
}

function patchPrimary(cluster) {
  const primary = require('./primary/patch.cjs');
  try {
    primary.patch(cluster, environment.words());
  } catch (error) {
    // The program may go on with node:cluster as it is. Only the environment can say now whether it is a worker.
    if (environment.isGiven()) primary.refuse(cluster, error);
    throw error;
  }
}

function patched() {
  const place = environment.read();
  if (environment.isGiven() && isRunner(process.argv[1])) {
    passOn(place);
    return require('node:cluster');
  }

  const Member = foreignMember(place);
  const cluster = Member ? loadAsWorker(place.id) : require('node:cluster');
  if (cluster[PATCHED]) return cluster;

  if (Member && cluster.isWorker) require('./worker/foreign.cjs').patch(cluster, Member, place);
  else if (cluster.isWorker) require('./worker/patch.cjs').patch(cluster, place);
  else patchPrimary(cluster);
  environment.remove();
  Object.defineProperty(cluster, PATCHED, { value: true });
  // ES modules import a copy of node:cluster's properties. In a worker none of the public ones has changed.
  if (cluster.isPrimary) require('node:module').syncBuiltinESMExports();
  return cluster;
}

module.exports = patched();
