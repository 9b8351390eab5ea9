/// <reference types="node" />

// cluster-rs patches the object that node:cluster exports, so what it adds is declared there: a program sees the same
// types whichever of the two names it imports. Everything else is @types/node's.
import type * as node from 'node:cluster';

declare module 'node:cluster' {
  interface Worker {
    /**
     * The worker's place among its siblings: the lowest number from 0 that was free when it was forked. The worker
     * that replaces it gets the same one, so it suits what must exist once per place, such as a log file's name;
     * `id` only grows. Known in the primary and, on `cluster.worker`, in the worker itself.
     */
    readonly slot: number;
  }

  interface Cluster {
    /** What the primary knows of its workers and of the addresses they listen on. In the primary only. */
    stats(): cluster.Stats;
  }
}

declare const cluster: node.Cluster;

declare namespace cluster {
  type Address = node.Address;
  type Cluster = node.Cluster;
  type ClusterSettings = node.ClusterSettings;
  type Worker = node.Worker;

  /** A snapshot that {@link Cluster.stats} made. */
  interface Stats {
    /** One entry for each worker in `cluster.workers`. */
    workers: WorkerStats[];
    /** One entry for each address that workers share. */
    addresses: AddressStats[];
  }

  interface WorkerStats {
    /** As `worker.id`. */
    id: number;
    /** As `worker.slot`. */
    slot: number;
    /** The process id; undefined while there is no process. */
    pid: number | undefined;
    /** How far it is: `none`, `online`, `listening`, `disconnecting`, `destroying`, `disconnected`, `dead`. */
    state: string;
    /** Connections that were given to this worker since it was forked. */
    delivered: number;
    /** Connections that wait for it now: given, and not taken yet. */
    waiting: number;
    /** Its load as it told it last, in a unit of the workers' own; 0 from one that tells none. */
    load: number;
  }

  interface AddressStats {
    /** Where it listens: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/web.sock`. */
    address: string;
    /** How connections reach the workers; `passed`: the primary accepts them and passes them on. */
    mechanism: 'passed';
    /** Who gets the next one; `rr`: the workers in turn. */
    policy: 'rr';
    /** Connections that the primary accepted here. */
    accepted: number;
    /** Of these, those that were taken back from a dead or stuck worker and given to another. */
    reclaimed: number;
    /** Of these, those that nobody could be found for. */
    lost: number;
  }
}

export = cluster;
