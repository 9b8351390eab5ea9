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

    /**
     * Tells the primary this worker's load, for `SCHED_LEAST_LOADED` and `stats()`, in place of the one that is measured
     * under that policy (open connections, and the milliseconds by which the event loop is late). Cheap: it may be called
     * at each change. Only on `cluster.worker`, in the worker itself.
     * @param load An integer from 0 to 4294967295, in a unit that is the same in all workers and in which a connection is
     * about 1; the newest counts.
     */
    setLoad(load: number): void;
  }

  interface ClusterSettings {
    /**
     * How connections reach the workers; it counts as it is at the first fork. `kernel`: the kernel gives them to the workers by
     * itself, which takes the capability CAP_BPF; `passed`: the primary accepts them and passes them on; `rotation`: the workers
     * accept them from one socket, each in its turn, under SCHED_RR; `auto`, the default: `rotation` for TCP under SCHED_RR, and
     * otherwise the first of `kernel` and `passed` that is to be had (docs/node.md has the whole rule). Who counts on exact turns names
     * `passed` or `kernel`.
     */
    mechanism?: 'auto' | 'passed' | 'kernel' | 'rotation' | undefined;

    /**
     * What workers may listen on; it counts as it is at each fork, for all workers from then on. Left out: anything. Each is a port, on
     * all addresses, or a text: `host:port`, `host:low-high`, `host:*` (port 0: a free one), where no host means the socket of all
     * addresses and `*` any address; `udp:` before one of these; `unix:/path`, `unix:/directory/` (any socket file in it or further
     * down), `unix:@name`; `fd:N`. A worker that asks for anything else gets EACCES, and the primary a warning. Only what is asked of
     * the primary is judged: what a worker binds itself (`exclusive`, `reusePort`) it binds with its own rights.
     */
    listen?: readonly (number | string)[] | undefined;

    /** How many addresses may be open for the workers at a time; more are EMFILE. 0, the default: any number. */
    listenMax?: number | undefined;
  }

  interface Cluster {
    /**
     * Who moves the connections of this process: `cluster-rs`, or `node`, whose own code does it in a worker without the addon, and
     * wherever this system has none (macOS, Windows, musl).
     */
    readonly engine: 'cluster-rs' | 'node';

    /**
     * A policy for `schedulingPolicy`: the next connection goes to a worker with nothing waiting and the least load.
     * In the primary only.
     */
    readonly SCHED_LEAST_LOADED: 3;

    /**
     * A policy for `schedulingPolicy`: connections from one client address go to the worker of the same slot, for as long
     * as it is there. In the primary only.
     */
    readonly SCHED_SOURCE_HASH: 4;

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
    /**
     * What the engine did otherwise than could be expected, and why, in sentences; no cause for worry. Above all why connections are
     * passed on by the primary where `kernel` would come first. At most 16 are kept. With `NODE_DEBUG=cluster-rs` in the
     * environment each is also written to standard error when it comes.
     */
    notices: string[];
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
    /**
     * How connections reach the workers; `passed`: the primary accepts them and passes them on; `kernel`: the kernel gives them
     * to the workers; `rotation`: the workers take them from one socket in turn; `shared`: without turns.
     */
    mechanism: 'passed' | 'kernel' | 'rotation' | 'shared';
    /**
     * Who gets the next one; `rr`: the workers in turn; `least-loaded`: the one with the least load; `source-hash`: the one
     * of the client's address.
     */
    policy: 'rr' | 'least-loaded' | 'source-hash';
    /** Connections that were accepted here, or, with the mechanism `kernel`, begun. */
    accepted: number;
    /**
     * Of these, those that the primary took back from a dead or stuck worker and gave to another. What the kernel moves by itself
     * from one worker to the others is not among them.
     */
    reclaimed: number;
    /** Of these, those that nobody could be found for. */
    lost: number;
  }
}

export = cluster;
