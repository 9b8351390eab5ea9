/// <reference types="node" />

// cluster-rs patches the object that node:cluster exports, so what it adds is declared there: a program sees the same
// types whichever of the two names it imports. Everything else is @types/node's.
import type * as node from 'node:cluster';

declare module 'node:http' {
  interface Server {
    /**
     * Whether idle connections go to other workers when this worker leaves. By default those of plain HTTP/1.1 servers do, unless the
     * program listens to `'connection'`; `true` says that it keeps nothing by connection.
     */
    handBack?: boolean | undefined;
  }
}

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

    /** Which workers it belongs to: all that one reload made, counted from 1. In the primary only. */
    readonly generation: number;

    /**
     * Replaces this worker by another that is made in the same way, as {@link Cluster.reload} does with all. If the new one fails, this
     * one stays, and a warning says why. Throws EBUSY while it is being replaced, ESRCH when it has ended or is leaving. In the primary
     * only.
     */
    restart(): void;
  }

  /** In the primary only. `ready`: a worker listens, and has said that it is ready where `settings.waitReady` is set. */
  interface ClusterEventMap {
    ready: [worker: Worker];
    recycle: [worker: Worker];
    reload: [progress: cluster.ReloadProgress];
  }

  interface WorkerEventMap {
    ready: [];
    recycle: [];
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

    /**
     * A worker is ready only when it has called `cluster.ready()` or `process.send('ready')`; it counts as it is at the first fork.
     */
    waitReady?: boolean | undefined;

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

    /**
     * Replaces all workers, so that no client notices. In each slot a new worker is forked beside the old one and listens without getting
     * connections. Once it is ready it gets the slot's turns, and the old one is disconnected behind that. It is ready when it listens on
     * all that the old one does, has said so where `settings.waitReady` is set, and has lived `minReady` since.
     *
     * The new workers are made as `cluster.fork()` would make them now, with the environment that the first worker of their slot was given;
     * options named as settings, and `env`, change that. A worker that is forked in the `exit` handler of one that was replaced is that
     * one's successor, which is there already.
     *
     * Resolves when it has ended, whatever came of it. Rejects with EBUSY (`busy: 'refuse'`) or ENOENT (there are no workers). In the
     * primary only.
     */
    reload(options?: cluster.ReloadOptions): Promise<cluster.Reloaded>;

    /** The same, with workers that are made as those before the last reload were; while one runs, as those before it. */
    rollback(options?: cluster.ReloadOptions): Promise<cluster.Reloaded>;

    /** Has so many slots, from 1, each with a worker: forks as the first fork did, or disconnects those of the highest slots. In the primary only. */
    scale(count: number): void;

    /** From here on replaces workers that have done enough, one after the other. Without a limit nobody is. In the primary only. */
    recycle(options?: cluster.RecycleOptions): void;

    /** In a worker: says that it may take another's place, where `settings.waitReady` is set. Elsewhere nothing. */
    ready(): void;

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

  /** How {@link Cluster.reload} replaces workers. */
  interface ReloadOptions extends Partial<ClusterSettings> {
    /** How many slots are swapped at a time; 1. */
    parallel?: number | undefined;
    /** How many more processes there may be than slots, beside those that are leaving; as many as `parallel`. */
    extra?: number | undefined;
    /** Milliseconds that a new worker has to become ready; 10000. Infinity: any time. */
    readyTimeout?: number | undefined;
    /** Milliseconds that it has to live after that; 500. */
    minReady?: number | undefined;
    /** What to do while another reload runs: take its place (the default), wait for its end, or be refused with EBUSY. */
    busy?: 'supersede' | 'queue' | 'refuse' | undefined;
    /** New workers need not listen on all that the old ones do; false. */
    allowFewer?: boolean | undefined;
    /** When one fails after others have taken their place, these are put back; true. */
    rollback?: boolean | undefined;
    /** What is added to the environment of each worker. */
    env?: Readonly<Record<string, unknown>> | undefined;
  }

  /** How a reload has ended. */
  interface Reloaded {
    /** That of the new workers; counted from 1, which is that of the first ones. */
    generation: number;
    /**
     * `done`: every slot has a new worker. `refused`: a new one failed, and the old ones have lost nothing. `rolled-back`: one failed after
     * others had taken their place, and these were put back. `superseded`: another reload, or `disconnect()`, came before its end.
     */
    outcome: 'done' | 'refused' | 'rolled-back' | 'superseded';
    /** How many slots had a new worker by then. */
    replaced: number;
    /** Why it has ended otherwise than well; otherwise empty. */
    reason: string;
  }

  /** How far a reload is. */
  interface ReloadProgress {
    generation: number;
    phase: 'checking' | 'rolling' | Reloaded['outcome'];
    replaced: number;
    reason: string;
  }

  /** After how much {@link Cluster.recycle} replaces a worker. */
  interface RecycleOptions {
    /** Memory that it has for itself: bytes, or a text such as `400M`. */
    rss?: number | string | undefined;
    /** Connections that it has taken. */
    connections?: number | undefined;
    /** HTTP/1.1 requests that it has answered. */
    requests?: number | undefined;
    /** Time since it was started: milliseconds, or a text such as `24h`. */
    age?: number | string | undefined;
    /** Each worker's limits are higher by up to so many percent; 20. */
    jitter?: number | undefined;
    /** How many are replaced at a time; 1. */
    atATime?: number | undefined;
  }

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
    /** As `worker.generation`. */
    generation: number;
    /** It may take another's place, or has. */
    ready: boolean;
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
