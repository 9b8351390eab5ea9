'use strict';

// The primary: Node's own code forks, speaks and remembers; the engine owns the addresses and moves the connections.

const net = require('node:net');
const { errno: ERRNO } = require('node:os').constants;
const { debuglog } = require('node:util');

const { load } = require('../addon.cjs');
const { ownData } = require('./data.cjs');
const { disconnectAll, sendSafely } = require('./repairs.cjs');
const { Fleet } = require('./fleet.cjs');
const { follow, forkEnrolled } = require('./fork.cjs');
const { guard } = require('./guard.cjs');
const { addStages } = require('./ipc.cjs');
const { permitQueries } = require('./permits.cjs');
const { answerQueries } = require('./queries.cjs');
const { addSettings } = require('./setup.cjs');
const { noteShared, rouseShared } = require('./shared.cjs');
const { watchSocketFiles } = require('./socket-files.cjs');

// Quiet unless NODE_DEBUG names it.
const debug = debuglog('cluster-rs');

function warn(text, code = 'CLUSTER_RS_WORKER') {
  process.emitWarning(text, { type: 'ClusterWarning', code });
}

// A worker behind a package runner listens without Node's channel, so Node does not hear of it.
function tellListening(cluster, { worker, asksHere }, { address, port }) {
  if (asksHere) return;
  const family = net.isIPv6(address) ? 6 : 4;
  const info = { addressType: port === undefined ? -1 : family, address, port: port ?? -1, fd: undefined };
  worker.state = 'listening';
  worker.emit('listening', info);
  cluster.emit('listening', worker, info);
}

function strayError(sentence) {
  return Object.assign(new Error(sentence), { code: 'ENOTCONN', errno: -ERRNO.ENOTCONN, syscall: 'fork' });
}

/** Lets a process that was started as a worker, and in which this package cannot work because of `error`, fork none. */
function refuse(cluster, error) {
  cluster.fork = function forkWorker() {
    throw strayError(`this process was started as a worker, and may start none while it cannot join its primary: ${error.message}`);
  };
  require('node:module').syncBuiltinESMExports();
}

/**
 * Patches node:cluster in a process that is no worker. `words`: what its environment says of a place as a worker. With such words
 * it may fork none: it was started as a worker and could not join, and each of its workers would do the same.
 */
function patch(cluster, words) {
  const native = load();
  native.noteEnvironment(...words);
  const { policy, isOfEngine, mechanism, permits } = addSettings(cluster, native.faultOfRules);
  const { Worker, fork } = cluster;
  const { disconnect } = Worker.prototype;
  // By worker, for those that have a place in the engine and have not ended.
  const entries = new Map();
  let engine;
  // What workers may listen on, as a text.
  let allowed;

  function theEngine() {
    if (!engine) {
      allowed = JSON.stringify(permits());
      engine = new native.Engine(policy(), mechanism(), permits(), (news) => {
        fleet.hear(news);
        if (news.notice !== undefined) debug(news.notice);
        if (news.warning !== undefined) warn(news.warning, news.aboutWorker ? undefined : 'CLUSTER_RS_ENGINE');
        for (const entry of entries.values()) if (entry.id === news.listening?.id) tellListening(cluster, entry, news.listening);
      });
      // Socket files go with the addresses.
      process.once('exit', () => engine.close());
    }
    return engine;
  }

  // Forks a worker, and enters it where it got a place. `how`: see forkEnrolled.
  function forkAs(env, how) {
    const ready = () => {
      // What is the same need not be asked for: it may have become impossible.
      if (engine && JSON.stringify(permits()) !== allowed) {
        engine.allow(permits());
        allowed = JSON.stringify(permits());
      }
      if (cluster.settings.waitReady) theEngine().waitForReady();
      return theEngine();
    };
    const { worker, place } = forkEnrolled(cluster, ready, (environment) => Reflect.apply(fork, cluster, [environment]), env, how);
    if (!place) return { worker };
    // Before the guard, to whom later listeners are the program's.
    worker.process.prependListener('message', (message) => {
      if (message === 'ready' && cluster.settings.waitReady) engine.isReady(place.id);
    });
    const stage = guard(cluster, worker, warn, () => engine.retire(place.id));
    const entry = { worker, id: place.id, shares: new Map(), asksHere: false };
    worker.slot = place.slot;
    entries.set(worker, entry);
    follow(engine, entry, {
      ended() {
        entries.delete(worker);
        fleet.ends(entry);
        rouseShared();
      },
      end: (code, signal) => fleet.end(entry, code, signal),
      told: () => fleet.ended(),
    });
    const stages = [ownData(entry), stage, permitQueries(engine, entry, permits, !isOfEngine())];
    if (isOfEngine()) stages.push(answerQueries(engine, entry, policy() === cluster.SCHED_LEAST_LOADED));
    else stages.push(watchSocketFiles((text) => warn(text, 'CLUSTER_RS_ENGINE')), noteShared());
    addStages(worker, ...stages);
    // What Node's own code opens for it the engine does not see.
    worker.on('listening', ({ addressType, address, port, fd }) => {
      if (!isOfEngine() || typeof addressType === 'string') engine.listens(place.id, [addressType, address, port, fd].join(' '));
    });
    return { worker, entry };
  }

  cluster.fork = function forkWorker(env) {
    const stray = native.whyNoWorkers();
    if (stray) throw strayError(stray);
    mechanism();
    const successor = fleet.successor();
    if (successor) return successor;
    const { worker, entry } = forkAs(env);
    if (entry) fleet.forked(entry, env);
    return worker;
  };

  const fleet = new Fleet(cluster, {
    entries,
    engine: () => engine,
    begin: theEngine,
    fork: forkAs,
  });
  cluster.reload = (options) => fleet.reload(options);
  cluster.rollback = (options) => fleet.rollback(options);
  cluster.scale = (count) => fleet.scale(count);
  cluster.recycle = (options) => fleet.recycle(options);
  cluster.ready = () => {};
  Worker.prototype.restart = function restartWorker() {
    const entry = entries.get(this);
    if (entry) fleet.restart(entry);
    else throw Object.assign(new Error('the worker has ended'), { code: 'ESRCH', errno: -ERRNO.ESRCH });
  };

  Worker.prototype.disconnect = function disconnectWorker(...args) {
    const entry = entries.get(this);
    if (entry) {
      // From here on it gets nothing new, even before it is told.
      engine.retire(entry.id);
      for (const share of entry.shares.values()) share.close();
    }
    return Reflect.apply(disconnect, this, args);
  };

  Worker.prototype.send = sendSafely(Worker.prototype.send);
  const disconnectThem = disconnectAll(cluster, () => [...entries.keys()]);
  cluster.disconnect = function disconnectWorkers(...args) {
    fleet.cancel();
    engine?.takeNothingBack();
    return Reflect.apply(disconnectThem, this, args);
  };

  cluster.stats = function stats() {
    if (!engine) return { workers: [], addresses: [], notices: [] };
    const { workers, addresses, notices } = engine.stats();
    const known = new Map([...entries.values()].map(({ id, worker }) => [id, worker]));
    return {
      workers: workers.flatMap(({ id, slot, delivered, waiting, load, generation, ready }) => {
        const worker = known.get(id);
        if (!worker) return [];
        const { id: number, process: { pid }, state } = worker;
        return [{ id: number, slot, pid, state, delivered, waiting, load, generation, ready }];
      }),
      addresses,
      notices,
    };
  };
}

module.exports = { patch, refuse };
