// The same as an ES module, with the names that both roles import.
import assert from 'node:assert/strict';
import cluster, { fork, isPrimary, isWorker, worker } from 'cluster-rs';
import run from './run.cjs';

assert.equal(isPrimary, !isWorker);
assert.equal(typeof fork, isPrimary ? 'function' : 'undefined');
assert.equal(worker, cluster.worker);
await run(cluster);
