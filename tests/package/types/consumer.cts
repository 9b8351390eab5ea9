// The same as a CommonJS module, in the two ways that TypeScript has to require one. It is compiled, never run.
import cluster = require('cluster-rs');
import imported, { fork } from 'cluster-rs';
import 'cluster-rs/register';

const started: cluster.Worker = cluster.fork();
const slot: number = started.slot + fork().slot;
const stats: cluster.Stats = imported.stats();
const pids: (number | undefined)[] = stats.workers.map((worker: cluster.WorkerStats) => worker.pid);
const settings: cluster.ClusterSettings = cluster.settings;
cluster.on('online', (worker) => console.log(worker.slot));
cluster.disconnect(() => console.log('all are gone'));

// @ts-expect-error There is no such policy.
const policy: 'random' = stats.addresses[0].policy;

export = { pids, policy, settings, slot };
