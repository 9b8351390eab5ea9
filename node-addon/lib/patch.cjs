'use strict';

// Patches node:cluster in place, once in a process, whoever asks first and however many copies of this package there are.

const environment = require('./environment.cjs');
const { absence, load } = require('./addon.cjs');
const { isWrapper } = require('./wrapper.cjs');

const PATCHED = Symbol.for('cluster-rs.patched');

// Node makes a worker of its own cluster one before any preload runs.
function isOfNode() {
  return process.moduleLoadList.includes('NativeModule internal/cluster/child');
}

/** The pid of the primary that gave this process its place, 0 if the place is nobody's. */
function primaryOf({ fd, id, slot }) {
  return load().Member.primaryOf(fd, id, slot);
}

/** This process as a worker of a primary that is not Node's, or behind a wrapper; undefined if it is none. */
function foreignMember(place) {
  if (!place || (process.channel && isOfNode())) return undefined;
  try {
    const primary = primaryOf(place);
    // A channel of the primary itself is Node's, whatever has become of the rest.
    return primary > 0 && !(process.channel && primary === process.ppid) ? load().Member : undefined;
  } catch (error) {
    process.emitWarning(`${error.message}; this process serves alone`, { type: 'ClusterWarning', code: error.code });
    return undefined;
  }
}

// A program forks its helpers with a channel of its own. They have got its place because it does not listen yet.
function isHelper(Member) {
  return Member !== undefined && process.channel !== undefined && !require('./ancestors.cjs').isOfWrapper();
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

// If this fails, the program that is started cannot prove its place, and says so itself.
function passOn(place) {
  try {
    if (place) load().Member.passOn(place.fd);
  } catch {
    // See above.
  }
}

// A wrapper's own sockets, such as the one on which tsx hears from its child, are nobody else's: servers of a primary listen alone.
function wrapper() {
  const cluster = require('node:cluster');
  cluster.isPrimary = true;
  return cluster;
}

function patchPrimary(cluster) {
  const absent = environment.isGiven() ? undefined : absence();
  if (absent) {
    require('./stock.cjs').patch(cluster, absent);
    return false;
  }
  const primary = require('./primary/patch.cjs');
  try {
    primary.patch(cluster, environment.words());
  } catch (error) {
    // The program may go on with node:cluster as it is. Only the environment can say now whether it is a worker.
    if (environment.isGiven()) primary.refuse(cluster, error);
    throw error;
  }
  return true;
}

function patchWorker(cluster, place) {
  if (!place) require('./stock.cjs').takeSlot(cluster.worker);
  return require('./worker/patch.cjs').patch(cluster, place);
}

function patchForeign(cluster, Member, place) {
  const isChild = primaryOf(place) === process.ppid;
  if (isChild) environment.remove();
  // Behind a wrapper this may be another one. What it starts gets the place as well, until one of them listens.
  else passOn(place);
  require('./worker/foreign.cjs').patch(cluster, Member, place, isChild ? () => {} : environment.remove);
}

function patched() {
  let place = environment.read();
  if (environment.isGiven() && isWrapper(process.argv[1])) {
    passOn(place);
    return wrapper();
  }

  let Member = foreignMember(place);
  if (isHelper(Member)) {
    environment.closeChannel(place.fd);
    environment.remove();
    place = Member = undefined;
  }
  const cluster = Member ? loadAsWorker(place.id) : require('node:cluster');
  if (cluster[PATCHED]) return cluster;

  let isOfEngine = true;
  if (Member && cluster.isWorker) {
    patchForeign(cluster, Member, place);
  } else {
    isOfEngine = cluster.isWorker ? patchWorker(cluster, place) : patchPrimary(cluster);
    environment.remove();
  }
  Object.defineProperties(cluster, { engine: { value: isOfEngine ? 'cluster-rs' : 'node' }, [PATCHED]: { value: true } });
  // ES modules import a copy of node:cluster's properties. In a worker none of the public ones has changed.
  if (cluster.isPrimary) require('node:module').syncBuiltinESMExports();
  return cluster;
}

module.exports = patched();
