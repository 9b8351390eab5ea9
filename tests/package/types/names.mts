// The names that the types declare are the names that are there. Compiled and run: a name that is missing here, or is
// not declared, does not compile; what is declared here is compared with the module and with node:cluster itself.
import assert from 'node:assert/strict';
import * as cluster from 'cluster-rs';
import * as node from 'node:cluster';
import { once } from 'node:events';
import { createServer } from 'node:net';

const declared: Record<keyof typeof cluster, true> = {
  SCHED_LEAST_LOADED: true,
  SCHED_NONE: true,
  SCHED_RR: true,
  SCHED_SOURCE_HASH: true,
  Worker: true,
  default: true,
  disconnect: true,
  fork: true,
  isMaster: true,
  isPrimary: true,
  isWorker: true,
  ready: true,
  recycle: true,
  reload: true,
  rollback: true,
  scale: true,
  schedulingPolicy: true,
  settings: true,
  setupMaster: true,
  setupPrimary: true,
  stats: true,
  worker: true,
  workers: true,
};

const there = Object.keys(cluster).filter((name) => name !== 'module.exports');
assert.deepEqual(there.sort(), Object.keys(declared).sort());
for (const [name, value] of Object.entries(node)) {
  if (name.startsWith('_') || name === 'module.exports') continue;
  assert.equal((cluster as Record<string, unknown>)[name], value, name);
}
assert.equal(cluster.isPrimary, !process.env['ROLE_OF_A_WORKER']);
if (cluster.isPrimary) {
  const worker = cluster.fork({ ROLE_OF_A_WORKER: '1' });
  const exit = once(worker, 'exit');
  await Promise.race([once(worker, 'listening'), exit]);
  const { workers, addresses } = cluster.stats();
  const ofWorker: Record<keyof cluster.WorkerStats, true> = {
    id: true, slot: true, pid: true, state: true, delivered: true, waiting: true, load: true, generation: true, ready: true,
  };
  const ofAddress: Record<keyof cluster.AddressStats, true> = {
    address: true, mechanism: true, policy: true, accepted: true, reclaimed: true, lost: true,
  };
  assert.deepEqual(workers.map((entry) => Object.keys(entry).sort()), [Object.keys(ofWorker).sort()]);
  assert.deepEqual(addresses.map((entry) => Object.keys(entry).sort()), [Object.keys(ofAddress).sort()]);
  worker.disconnect();
  assert.deepEqual(await exit, [0, null]);
  console.log('every name is there, in the primary and in a worker');
} else {
  createServer().listen(0, '127.0.0.1');
}
