'use strict';

// node:cluster where this system has no native addon (see addon.cjs): the primary. It moves the connections in Node's own way. What
// this package adds is there, so that a program runs as it is, and has no effect.

const { addSettings } = require('./primary/setup.cjs');

/** Forks as Node does, and gives each worker the lowest slot that is free. */
function addSlots(cluster) {
  const { fork } = cluster;
  const taken = new Set();
  cluster.fork = function forkWorker(env) {
    let slot = 0;
    while (taken.has(slot)) slot += 1;
    const worker = Reflect.apply(fork, this, [{ ...env, CLUSTER_RS_SLOT: `${slot}` }]);
    worker.slot = slot;
    if (worker.process.pid === undefined) return worker;
    taken.add(slot);
    worker.process.prependOnceListener('exit', () => taken.delete(slot));
    return worker;
  };
}

/** Adds to node:cluster what programs know of this package, and warns once. `absent`: the error that says why there is no addon. */
function patch(cluster, absent) {
  const text = `${absent.message}. node:cluster works in its stead`;
  process.emitWarning(`${text} (CLUSTER_RS_STRICT=1 makes this an error)`, { type: 'ClusterWarning', code: absent.code });
  // Only the engine judges rules.
  addSettings(cluster, () => undefined);
  addSlots(cluster);
  cluster.stats = function stats() {
    const workers = Object.values(cluster.workers).map(({ id, slot, process: { pid }, state }) =>
      ({ id, slot, pid, state, delivered: 0, waiting: 0, load: 0 }));
    return { workers, addresses: [], notices: [text] };
  };
}

/** In a worker of such a primary: its slot. */
function takeSlot(worker) {
  const { CLUSTER_RS_SLOT: slot } = process.env;
  delete process.env.CLUSTER_RS_SLOT;
  if (worker && slot !== undefined) worker.slot = Number(slot);
}

module.exports = { patch, takeSlot };
