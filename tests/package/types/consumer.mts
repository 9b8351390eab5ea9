// A program in TypeScript as an ES module. It is compiled, never run.
import cluster, { fork, isPrimary, SCHED_SOURCE_HASH, Worker, type AddressStats, type ClusterSettings, type Stats } from 'cluster-rs';
import 'cluster-rs/register';
import nodeCluster from 'node:cluster';

const settings: ClusterSettings = { exec: 'worker.js', args: ['--use', 'https'], silent: true, mechanism: 'passed' };
cluster.setupPrimary(settings);
cluster.schedulingPolicy = cluster.SCHED_RR;
cluster.schedulingPolicy = cluster.SCHED_LEAST_LOADED;
cluster.schedulingPolicy = SCHED_SOURCE_HASH;

const started: Worker = fork({ ROLE: 'web' });
const slot: number = started.slot;
const own: number | undefined = cluster.worker?.slot;
cluster.on('exit', (worker, code, signal) => {
  console.log(worker.slot + worker.id + code, signal.toUpperCase());
});
cluster.on('listening', (worker, address) => console.log(worker.slot, address.addressType, address.port));
for (const worker of Object.values(cluster.workers ?? {})) worker?.send({ slot: worker.slot });

const stats: Stats = cluster.stats();
const engine: 'cluster-rs' | 'node' = cluster.engine;
const waiting: number = stats.workers.reduce((sum, { waiting }) => sum + waiting, 0);
const [first]: AddressStats[] = stats.addresses;
const mechanism: 'passed' | 'kernel' | 'rotation' | 'shared' | undefined = first?.mechanism;
const policy: 'rr' | 'least-loaded' | 'source-hash' | undefined = first?.policy;
cluster.worker?.setLoad(stats.workers[0]?.load ?? 0);

// One truth: whoever imports node:cluster sees what cluster-rs adds, for it is the same object.
nodeCluster.stats().workers[0]?.pid?.toFixed();
const same: typeof nodeCluster = cluster;

// @ts-expect-error A slot is given, not chosen.
started.slot = 3;
// @ts-expect-error There is no such number.
stats.workers[0].accepted;
// @ts-expect-error A load is a number.
cluster.worker?.setLoad('high');
// @ts-expect-error stats() takes no argument.
cluster.stats(1);

export { engine, isPrimary, own, policy, same, slot, waiting };
