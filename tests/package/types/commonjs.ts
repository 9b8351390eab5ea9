// As an old program has it: CommonJS without the interoperation of default exports. It is compiled, never run.
import cluster = require('cluster-rs');

const worker: cluster.Worker = cluster.fork();
const waiting: number[] = cluster.stats().workers.map((worker) => worker.waiting);
worker.on('online', () => console.log(worker.slot, waiting));
