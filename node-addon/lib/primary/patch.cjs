'use strict';

// The primary: Node's own code forks, speaks and remembers; the engine owns the addresses and moves the connections.

const net = require('node:net');
const { errno: ERRNO } = require('node:os').constants;
const { debuglog } = require('node:util');

const { load } = require('../load.cjs');
const { disconnectAll, sendSafely } = require('./repairs.cjs');
const { forkEnrolled } = require('./fork.cjs');
const { guard } = require('./guard.cjs');
const { addMechanism } = require('./mechanisms.cjs');
const { LEAST_LOADED, addPolicies, isOfEngine } = require('./policies.cjs');
const { addPermits, permitQueries } = require('./permits.cjs');
const { answerQueries } = require('./queries.cjs');
const { served } = require('./served.cjs');

// Connections that wait for one worker. Few, because one that waits behind a long handler could be served by a neighbour.
// More only for a worker that takes them within milliseconds, which saves the primary most of its wake-ups.
const WINDOW = 2;
const WINDOW_MOST = 8;
// For how long an address stays open for a successor when its last worker died, in milliseconds.
const KEEP_UNATTENDED = 5000;

// Quiet unless NODE_DEBUG names it.
const debug = debuglog('cluster-rs');

function warn(text, code = 'CLUSTER_RS_WORKER') {
  process.emitWarning(text, { type: 'ClusterWarning', code });
}

// A worker that runs behind a package runner listens without Node's channel, and Node has no word of it.
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
 * Patches node:cluster in a process that may fork workers. `words`: what its environment says of a place as a worker. It is none,
 * or it would not be here, and with such words it may fork none either: each would do the same.
 */
function patch(cluster, words) {
  const native = load();
  native.noteEnvironment(...words);
  const policy = addPolicies(cluster);
  const mechanism = addMechanism(cluster);
  const allow = addPermits(cluster);
  const { Worker, fork } = cluster;
  const { disconnect } = Worker.prototype;
  // The engine's view of each worker that has not ended.
  const seats = new Map();
  let engine;

  function theEngine() {
    if (!engine) {
      engine = new native.Engine(policy(), mechanism(), WINDOW, WINDOW_MOST, KEEP_UNATTENDED, allow(), (news) => {
        if (news.notice !== undefined) debug(news.notice);
        if (news.warning !== undefined) warn(news.warning, news.aboutWorker ? undefined : 'CLUSTER_RS_ENGINE');
        for (const seat of seats.values()) if (seat.id === news.listening?.id) tellListening(cluster, seat, news.listening);
      });
      // Socket files go with the addresses.
      process.once('exit', () => engine.close());
    }
    return engine;
  }

  cluster.fork = function forkWorker(env) {
    const stray = native.whyNoWorkers();
    if (stray) throw strayError(stray);
    mechanism();
    if (engine) engine.allow(allow());
    const { worker, place } = forkEnrolled(cluster, theEngine(), (environment) => Reflect.apply(fork, this, [environment]), env);
    if (!place) return worker;
    const seat = { worker, id: place.id, slot: place.slot, shares: new Map(), asksHere: false };
    worker.slot = place.slot;
    seats.set(worker, seat);
    worker.process.prependOnceListener('exit', (code) => {
      seats.delete(worker);
      for (const share of seat.shares.values()) share.end();
      // A code that is no failure is no crash, for which an address would be kept for a successor.
      if (engine.ended(seat.id, code === 0)) served.add(worker);
    });
    worker.process.prependOnceListener('disconnect', () => {
      for (const share of seat.shares.values()) share.end();
      // One that ended is seen by the engine itself, which keeps its addresses for a successor.
      if (worker.exitedAfterDisconnect) engine.retire(seat.id);
    });
    if (isOfEngine(cluster, policy())) answerQueries(engine, seat, policy() === LEAST_LOADED);
    permitQueries(engine, seat, allow, !isOfEngine(cluster, policy()));
    // Last, so that it sees each message first.
    guard(worker, warn);
    return worker;
  };

  Worker.prototype.disconnect = function disconnectWorker(...args) {
    const seat = seats.get(this);
    if (seat) {
      // Nothing new goes to it from here on, before it knows.
      engine.retire(seat.id);
      for (const share of seat.shares.values()) share.close();
    }
    return Reflect.apply(disconnect, this, args);
  };

  Worker.prototype.send = sendSafely(Worker.prototype.send);
  cluster.disconnect = disconnectAll(cluster, () => [...seats.keys()]);

  cluster.stats = function stats() {
    if (!engine) return { workers: [], addresses: [], notices: [] };
    const { workers, addresses, notices } = engine.stats();
    const known = new Map([...seats.values()].map((seat) => [seat.id, seat.worker]));
    return {
      workers: workers.flatMap(({ id, slot, delivered, waiting, load }) => {
        const worker = known.get(id);
        if (!worker) return [];
        return [{ id: worker.id, slot, pid: worker.process.pid, state: worker.state, delivered, waiting, load }];
      }),
      addresses,
      notices,
    };
  };
}

module.exports = { patch, refuse };
