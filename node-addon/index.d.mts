import cluster from './index.cjs';

export default cluster;

export type {
  Address,
  AddressStats,
  Cluster,
  ClusterSettings,
  RecycleOptions,
  ReloadOptions,
  ReloadProgress,
  Reloaded,
  Stats,
  WorkerStats,
} from './index.cjs';

// The names of both roles: those that this process's role does not have are undefined, as on the object itself.

/** The policy that gives a connection to the worker with the least load; see `Worker.setLoad`. The engine does it. */
export declare const SCHED_LEAST_LOADED: cluster.Cluster['SCHED_LEAST_LOADED'];
/** The policy that leaves the choice to the kernel: the workers share the listening socket. Node's own code does it. */
export declare const SCHED_NONE: cluster.Cluster['SCHED_NONE'];
/** The default policy: the workers get connections in turn, and a full one passes its turn. The engine does it. */
export declare const SCHED_RR: cluster.Cluster['SCHED_RR'];
/** The policy that gives all connections of a client's address to the same worker. The engine does it. */
export declare const SCHED_SOURCE_HASH: cluster.Cluster['SCHED_SOURCE_HASH'];
export declare const Worker: typeof import('node:cluster').Worker;
export type Worker = cluster.Worker;
export declare const disconnect: cluster.Cluster['disconnect'];
export declare const fork: cluster.Cluster['fork'];
/** @deprecated Use `isPrimary`. */
export declare const isMaster: cluster.Cluster['isMaster'];
export declare const isPrimary: cluster.Cluster['isPrimary'];
export declare const isWorker: cluster.Cluster['isWorker'];
export declare const ready: cluster.Cluster['ready'];
export declare const recycle: cluster.Cluster['recycle'];
export declare const reload: cluster.Cluster['reload'];
export declare const rollback: cluster.Cluster['rollback'];
export declare const scale: cluster.Cluster['scale'];
/** The policy when this module was loaded; to change it, assign to `schedulingPolicy` of the default export. */
export declare const schedulingPolicy: cluster.Cluster['schedulingPolicy'];
/** The settings when this module was loaded; later ones are on the default export. */
export declare const settings: cluster.Cluster['settings'];
/** @deprecated Use `setupPrimary`. */
export declare const setupMaster: cluster.Cluster['setupMaster'];
export declare const setupPrimary: cluster.Cluster['setupPrimary'];
/** What the primary knows of its workers and of the addresses they listen on. */
export declare const stats: cluster.Cluster['stats'];
export declare const worker: cluster.Cluster['worker'];
export declare const workers: cluster.Cluster['workers'];
