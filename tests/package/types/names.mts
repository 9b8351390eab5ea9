// The names that the types declare are the names that are there. Compiled and run: a name that is missing here, or is
// not declared, does not compile; what is declared here is compared with the module and with node:cluster itself.
import assert from 'node:assert/strict';
import * as cluster from 'cluster-rs';
import * as node from 'node:cluster';

const declared: Record<keyof typeof cluster, true> = {
  SCHED_NONE: true,
  SCHED_RR: true,
  Worker: true,
  default: true,
  disconnect: true,
  fork: true,
  isMaster: true,
  isPrimary: true,
  isWorker: true,
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
  const [code] = await new Promise<[number, string]>((resolve) => {
    cluster.fork({ ROLE_OF_A_WORKER: '1' }).on('exit', (code, signal) => resolve([code, signal]));
  });
  assert.equal(code, 0);
  console.log('every name is there, in the primary and in a worker');
} else {
  process.exit();
}
